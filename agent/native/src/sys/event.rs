//! Eventfds and poll(2).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};

/// A flag that another thread, or asyncio, can wait for.
pub struct EventFd(File);

impl EventFd {
    /// A cleared one.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed; the result is checked, and owned by nobody else.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above: a fresh descriptor.
        Ok(Self(unsafe { File::from_raw_fd(fd) }))
    }

    /// Make it readable.
    pub fn set(&self) {
        // The only failure is a counter at its limit, which is readable all the same.
        drop((&self.0).write(&1u64.to_ne_bytes()));
    }

    /// Make it not readable.
    pub fn clear(&self) {
        let mut count = [0; 8];
        // The only failure is that it was clear.
        drop((&self.0).read(&mut count));
    }

    /// Its number, for select and asyncio.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Wait until one of at most eight descriptors can be read; forever, or `timeout` milliseconds.
/// With `writable`, wait until the first can be written instead.  Nothing is said about which.
pub fn wait(fds: &[BorrowedFd<'_>], writable: bool, timeout: i32) {
    let mut polled = [libc::pollfd {
        fd: -1,
        events: libc::POLLIN,
        revents: 0,
    }; 8];
    for (slot, fd) in polled.iter_mut().zip(fds) {
        slot.fd = fd.as_raw_fd();
    }
    if writable {
        polled[0].events = libc::POLLOUT;
    }
    // SAFETY: the array has eight entries, of which those with a negative descriptor are skipped.
    // An interrupted or failed call counts as a wake-up: callers look for themselves.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
}
