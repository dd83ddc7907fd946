//! The TUN device.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::drops::{Drops, Reason};
use super::group::Writer;
use super::vnet;
use crate::sys;

/// Bytes of the longest read.
pub const READ: usize = vnet::LEN + 0xFFFF;

/// Which super-packets the device takes; without a virtio-net header none.
#[derive(Clone, Copy, Default)]
pub struct Joined {
    /// TCP.
    pub tcp: bool,
    /// UDP.
    pub udp: bool,
}

/// The device; its descriptor is closed with it.
pub struct Tun {
    file: File,
    /// Bytes of a packet on it.
    pub mtu: usize,
    /// Packets have a virtio-net header.
    pub vnet_hdr: bool,
    /// What super-packets may be written.
    pub joined: Joined,
}

impl Tun {
    /// Take a device over.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn new(fd: OwnedFd, mtu: usize, vnet_hdr: bool, joined: Joined) -> io::Result<Self> {
        sys::fd::set_nonblocking(fd.as_fd())?;
        Ok(Self {
            file: File::from(fd),
            mtu,
            vnet_hdr,
            joined,
        })
    }

    /// One read.
    ///
    /// # Errors
    /// As read(2).
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Writes to a device, if there is one, and counts what it refuses.
pub struct TunWriter<'a> {
    /// Where to.
    pub tun: Option<&'a Tun>,
    /// Where refusals are counted.
    pub drops: &'a Drops,
}

impl Writer for TunWriter<'_> {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<(), i32> {
        let Some(tun) = self.tun else { return Ok(()) };
        let mut file = &tun.file;
        match parts {
            [one] => file.write(one),
            many => file.write_vectored(many),
        }
        .map(drop)
        .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    fn lost(&mut self, count: usize) {
        self.drops.add(Reason::TunWrite, count);
    }
}
