//! System calls: the only place with `unsafe`, each block with its reason.

#![allow(unsafe_code)]

pub mod event;
pub mod fd;
pub mod ipsec_mb;
pub mod library;
pub mod memory;
pub mod socket;

/// Seconds since boot, suspend included (`CLOCK_BOOTTIME`), as `tailnet.agent.clock.now`.
pub fn boottime() -> f64 {
    let mut at = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `at` is a valid place for the result; this clock exists on every Linux we support.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut at) };
    at.tv_sec as f64 + at.tv_nsec as f64 * 1e-9
}

/// Keep all signals away from this thread: they belong to the one that runs Python.
pub fn block_signals() {
    // SAFETY: the set is initialised by sigfillset before it is used; no old mask is asked for.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Let short sleeps of this thread be short: by default the kernel rounds up by 50 µs.
pub fn sharpen_timers() {
    // SAFETY: no pointers are passed; a refusal leaves the default.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}
