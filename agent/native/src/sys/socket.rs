//! Many datagrams in one system call, each with segmentation offload.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Messages of one call.
pub const SEND_MAX: usize = 32;
/// Messages of one call.
pub const RECEIVE_MAX: usize = 32;
/// Bytes of one received message.
const LONGEST: usize = 1 << 16;
/// From one received message to the next: were it a power of two, the beginnings of all would compete for
/// the same few sets of the processor's caches.
pub const SLOT: usize = LONGEST + 21 * 64;

const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;

/// A socket address as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct SockAddr {
    bytes: [u8; 28],
    len: u32,
}

impl SockAddr {
    /// From the readable form.
    pub fn new(addr: SocketAddr) -> Self {
        let mut bytes = [0; 28];
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        match addr.ip() {
            IpAddr::V4(ip) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&ip.octets());
                Self { bytes, len: 16 }
            }
            IpAddr::V6(ip) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[8..24].copy_from_slice(&ip.octets());
                Self { bytes, len: 28 }
            }
        }
    }

    /// The readable form, IPv4-mapped addresses as IPv4; `None` for another family.
    fn readable(&self) -> Option<SocketAddr> {
        let family = i32::from(u16::from_ne_bytes([self.bytes[0], self.bytes[1]]));
        let port = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        let ip = if family == libc::AF_INET {
            let octets: [u8; 4] = self.bytes[4..8].try_into().ok()?;
            IpAddr::V4(Ipv4Addr::from(octets))
        } else if family == libc::AF_INET6 {
            let octets: [u8; 16] = self.bytes[8..24].try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        } else {
            return None;
        };
        Some(SocketAddr::new(ip, port))
    }
}

/// One message to send.  `segment` > 0: the kernel cuts `data` into datagrams of that size.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// One or more datagrams.
    pub data: &'a [u8],
    /// One more datagram behind them, of less than `segment` bytes.
    pub tail: &'a [u8],
    /// Where they go.
    pub to: SockAddr,
    /// Bytes of each.
    pub segment: u16,
}

/// Room for one ancillary message with an int.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Send up to [`SEND_MAX`] messages; returns how many went, at least one.
///
/// # Errors
/// The errno of the first.
pub fn send_many(fd: BorrowedFd<'_>, messages: &[Outgoing<'_>]) -> Result<usize, i32> {
    let count = messages.len().min(SEND_MAX);
    // SAFETY: all-zero is valid for these C structs: null pointers and zero lengths.
    let mut headers: [libc::mmsghdr; SEND_MAX] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut vectors: [[libc::iovec; 2]; SEND_MAX] = unsafe { mem::zeroed() };
    let mut controls = [Control([0; 64]); SEND_MAX];
    for (i, message) in messages[..count].iter().enumerate() {
        for (vector, part) in vectors[i].iter_mut().zip([message.data, message.tail]) {
            vector.iov_base = part.as_ptr().cast_mut().cast();
            vector.iov_len = part.len();
        }
        let header = &mut headers[i].msg_hdr;
        header.msg_name = message.to.bytes.as_ptr().cast_mut().cast();
        header.msg_namelen = message.to.len;
        header.msg_iov = vectors[i].as_mut_ptr();
        header.msg_iovlen = if message.tail.is_empty() { 1 } else { 2 };
        if message.segment > 0 {
            header.msg_control = controls[i].0.as_mut_ptr().cast();
            // SAFETY: the buffer is aligned and larger than one header with two bytes.
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(2) as _;
                let cmsg = libc::CMSG_FIRSTHDR(header);
                (*cmsg).cmsg_level = libc::IPPROTO_UDP;
                (*cmsg).cmsg_type = UDP_SEGMENT;
                (*cmsg).cmsg_len = libc::CMSG_LEN(2) as _;
                libc::CMSG_DATA(cmsg)
                    .cast::<u16>()
                    .write_unaligned(message.segment);
            }
        }
    }
    // SAFETY: every header points at data, addresses and control buffers that live until the call
    // is over; the kernel does not write to them, in spite of the mutable types.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT as _,
        )
    };
    usize::try_from(sent).map_err(|_| errno())
}

fn errno() -> i32 {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// What one message brought: `len` bytes from `start`, datagrams of `size` each.
#[derive(Clone, Copy)]
pub struct Incoming {
    /// Offset in [`Receiver::data`].
    pub start: usize,
    /// Bytes.
    pub len: usize,
    /// Bytes of each datagram; the last may be shorter.
    pub size: usize,
    /// Who sent them.
    pub src: Option<SocketAddr>,
}

/// Memory for received messages.
pub struct Receiver {
    /// [`RECEIVE_MAX`] slots of [`SLOT`] bytes.
    pub data: Vec<u8>,
    /// What the last call brought.
    pub messages: Vec<Incoming>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            data: vec![0; RECEIVE_MAX * SLOT],
            messages: Vec::with_capacity(RECEIVE_MAX),
        }
    }
}

impl Receiver {
    /// Read up to `limit` messages into `messages` without waiting.
    ///
    /// # Errors
    /// As recvmmsg(2), `EAGAIN` for "nothing".
    pub fn receive(&mut self, fd: BorrowedFd<'_>, limit: usize) -> Result<(), i32> {
        self.messages.clear();
        let count = limit.min(RECEIVE_MAX);
        // SAFETY: all-zero is valid for these C structs.
        let mut headers: [libc::mmsghdr; RECEIVE_MAX] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; RECEIVE_MAX] = unsafe { mem::zeroed() };
        let empty = SockAddr {
            bytes: [0; 28],
            len: 0,
        };
        let mut names = [empty; RECEIVE_MAX];
        let mut controls = [Control([0; 64]); RECEIVE_MAX];
        for (i, slot) in self.data.chunks_exact_mut(SLOT).take(count).enumerate() {
            vectors[i].iov_base = slot.as_mut_ptr().cast();
            vectors[i].iov_len = LONGEST;
            let header = &mut headers[i].msg_hdr;
            header.msg_name = names[i].bytes.as_mut_ptr().cast();
            header.msg_namelen = names[i].bytes.len() as _;
            header.msg_iov = &raw mut vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = controls[i].0.as_mut_ptr().cast();
            header.msg_controllen = controls[i].0.len() as _;
        }
        // SAFETY: every header points at distinct memory of the length it states, alive and not
        // otherwise used until the call is over.
        let got = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                count as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| errno())?;
        for (i, header) in headers[..got].iter().enumerate() {
            let len = (header.msg_len as usize).min(LONGEST);
            let size = match gro_size(&header.msg_hdr) {
                Some(size) if size > 0 => size,
                _ => len,
            };
            self.messages.push(Incoming {
                start: i * SLOT,
                len,
                size,
                src: names[i].readable(),
            });
        }
        Ok(())
    }
}

fn gro_size(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel wrote whole ancillary messages within msg_controllen; the macros walk
    // them, and an int is read only from a message that is long enough for one.
    unsafe {
        let mut cmsg = libc::CMSG_FIRSTHDR(header);
        while !cmsg.is_null() {
            if (*cmsg).cmsg_level == libc::IPPROTO_UDP
                && (*cmsg).cmsg_type == UDP_GRO
                && (*cmsg).cmsg_len as usize >= libc::CMSG_LEN(4) as usize
            {
                let size = libc::CMSG_DATA(cmsg).cast::<i32>().read_unaligned();
                return usize::try_from(size).ok();
            }
            cmsg = libc::CMSG_NXTHDR(header, cmsg);
        }
    }
    None
}
