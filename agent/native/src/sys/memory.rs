//! Memory that will be needed soon.

/// Ask for the cache line where `at` begins; nothing but the time changes.
pub fn prefetch<T>(at: &T) {
    let at: *const T = at;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction reads and writes nothing that a program could see, and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}
