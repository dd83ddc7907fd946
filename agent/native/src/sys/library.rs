//! Shared libraries that are used where they are installed.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

/// Open one by its name in the system's directories; it is never closed.
pub fn open(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: the name ends in a zero byte.  The library's own code runs; who can put one into the
    // system's directories is root.
    NonNull::new(unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) })
}

/// The address of a function in it.
pub fn symbol(library: NonNull<c_void>, name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: the library is open, as none is ever closed, and the name ends in a zero byte.
    NonNull::new(unsafe { libc::dlsym(library.as_ptr(), name.as_ptr()) })
}
