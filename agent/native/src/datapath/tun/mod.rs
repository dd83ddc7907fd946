//! The TUN device.

pub mod service;
pub mod sites;
pub mod steering;

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::datapath::offload::group::Writer;
use crate::datapath::report::drops::{Drops, Reason};
use crate::datapath::tun::steering::Steering;
use crate::datapath::wire::vnet;
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

/// The device; its descriptors are closed with it.
pub struct Tun {
    queues: Vec<File>,
    steering: Option<Steering>,
    /// Bytes of a packet on it.
    pub mtu: usize,
    /// Packets have a virtio-net header.
    pub vnet_hdr: bool,
    /// What super-packets may be written.
    pub joined: Joined,
}

impl Tun {
    /// Take a device over: a descriptor for each of its queues, at least one and at most 254.
    ///
    /// # Errors
    /// One cannot be made non-blocking, or there are too few or too many.
    pub fn new(fds: Vec<OwnedFd>, mtu: usize, vnet_hdr: bool, joined: Joined) -> io::Result<Self> {
        for fd in &fds {
            sys::fd::set_nonblocking(fd.as_fd())?;
        }
        let steering = match fds.len() {
            1 => None,
            many @ 2..255 => Some(Steering::new(many as u8)),
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        Ok(Self {
            queues: fds.into_iter().map(File::from).collect(),
            steering,
            mtu,
            vnet_hdr,
            joined,
        })
    }

    /// How many queues it has.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// One read of a queue.
    ///
    /// # Errors
    /// As read(2).
    pub fn read(&self, queue: usize, buffer: &mut [u8]) -> io::Result<usize> {
        let size = (&self.queues[queue]).read(buffer)?;
        if let Some(steering) = &self.steering {
            let start = if self.vnet_hdr { vnet::LEN } else { 0 };
            steering.note(buffer[..size].get(start..).unwrap_or_default(), queue);
        }
        Ok(size)
    }

    /// The descriptor of a queue.
    pub fn fd(&self, queue: usize) -> BorrowedFd<'_> {
        self.queues[queue].as_fd()
    }

    /// The queue that a packet, with its virtio-net header if there is one, is written to.
    fn towards(&self, written: &[u8]) -> &File {
        let queue = self.steering.as_ref().map_or(0, |steering| {
            let start = if self.vnet_hdr { vnet::LEN } else { 0 };
            steering.choose(written.get(start..).unwrap_or_default())
        });
        &self.queues[queue]
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
        let mut file = tun.towards(parts.first().map_or(&[], |first| &**first));
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
