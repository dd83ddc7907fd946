//! Descriptors that Python hands over.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Take over a descriptor.
///
/// # Errors
/// It is not open.
pub fn take(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks; a number that is no descriptor gives an error.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and the caller's contract is that it is ours from now on.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Make a descriptor non-blocking.
///
/// # Errors
/// As fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open as long as it is borrowed.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
