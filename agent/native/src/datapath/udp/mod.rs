//! UDP sockets that move many datagrams per system call.
//!
//! Source: Linux udp(7), UDP_SEGMENT and UDP_GRO.

pub mod run;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys;
use crate::sys::event::{self, EventFd};
use crate::sys::socket::{Outgoing, send_many};

const MAX_SEGMENTS: usize = 64;
const WORTH_A_SENTINEL: usize = 8; // datagrams
const SENTINEL: &[u8] = &[7];
const PATIENCE: i32 = 200; // milliseconds that a full socket holds the TUN device back

/// One bound socket; its descriptor is closed with it.
pub struct UdpSocket {
    /// The descriptor.
    pub fd: OwnedFd,
    v6: bool,
    gso: AtomicBool,
    sentinel: bool,
}

impl UdpSocket {
    /// Take a socket over.  `sentinel`: see [`UdpSocket::tail`].
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn new(fd: OwnedFd, v6: bool, gso: bool, sentinel: bool) -> io::Result<Self> {
        sys::fd::set_nonblocking(fd.as_fd())?;
        let gso = AtomicBool::new(gso);
        Ok(Self {
            fd,
            v6,
            gso,
            sentinel,
        })
    }

    /// Bytes that one message with datagrams of `size` bytes may have, of `total` to be sent.
    pub fn chunk(&self, size: usize, total: usize) -> usize {
        let few = self.sentinel && total < size * WORTH_A_SENTINEL;
        if few || !self.gso.load(Ordering::Relaxed) {
            return size;
        }
        let room = if self.v6 { 65_527 } else { 65_507 };
        let extra = usize::from(self.sentinel);
        size * (MAX_SEGMENTS - extra).min((room - extra) / size).max(1)
    }

    /// What to send behind a group of `len` bytes.
    ///
    /// Some kernels damage groups of equal datagrams: one more, that nobody reads, makes them
    /// unequal.  Source: tailscale net/batching/conn_linux.go, neverGSOEqualTail.
    pub fn tail(&self, len: usize, size: usize) -> &'static [u8] {
        if self.sentinel && len > size && len.is_multiple_of(size) {
            SENTINEL
        } else {
            &[]
        }
    }

    /// Send in order.  `failed` hears which message was refused, and why.  With `stop`, a full
    /// socket is waited for.
    pub fn send(
        &self,
        messages: &[Outgoing<'_>],
        stop: Option<&EventFd>,
        mut failed: impl FnMut(usize, i32),
    ) {
        let mut at = 0;
        let mut waited = false;
        while at < messages.len() {
            match send_many(self.fd.as_fd(), &messages[at..]) {
                Ok(sent) => {
                    at += sent.max(1);
                    waited = false;
                }
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) => match stop {
                    Some(stop) if !waited => {
                        event::wait(&[self.fd.as_fd(), stop.as_fd()], true, PATIENCE);
                        waited = true;
                    }
                    _ => {
                        failed(at, libc::EAGAIN);
                        at += 1;
                    }
                },
                Err(errno) => {
                    let message = messages[at];
                    if message.segment > 0 {
                        // EIO: this device has no checksum offload, so segmenting can never work on
                        // it.  Anything else may be about the size (a path with a small MTU).
                        if errno == libc::EIO {
                            self.gso.store(false, Ordering::Relaxed);
                        }
                        if let Err(errno) = self.send_apart(&message) {
                            failed(at, errno);
                        }
                    } else {
                        failed(at, errno);
                    }
                    at += 1;
                }
            }
        }
    }

    fn send_apart(&self, message: &Outgoing<'_>) -> Result<(), i32> {
        let mut parts = message.data.chunks(usize::from(message.segment)).peekable();
        while let Some(data) = parts.peek() {
            let one = Outgoing {
                data,
                to: message.to,
                tail: &[],
                segment: 0,
            };
            match send_many(self.fd.as_fd(), &[one]) {
                Ok(_) => drop(parts.next()),
                Err(libc::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// The sockets in use.
#[derive(Default)]
pub struct Sockets {
    /// For IPv4.
    pub v4: Option<Arc<UdpSocket>>,
    /// For IPv6.
    pub v6: Option<Arc<UdpSocket>>,
}

impl Sockets {
    /// One of each family at most; the last one counts.
    pub fn of(sockets: Vec<UdpSocket>) -> Self {
        let mut out = Self::default();
        for socket in sockets {
            if socket.v6 {
                out.v6 = Some(Arc::new(socket));
            } else {
                out.v4 = Some(Arc::new(socket));
            }
        }
        out
    }

    /// The one that reaches an address.
    pub fn towards(&self, dst: SocketAddr) -> Option<&UdpSocket> {
        if dst.is_ipv4() {
            self.v4.as_deref()
        } else {
            self.v6.as_deref()
        }
    }
}
