//! Runs of sealed datagrams of equal size to one peer, and their way out.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::datapath::report::drops::Reason;
use crate::datapath::report::upcalls::Upcall;
use crate::datapath::tables::Tables;
use crate::datapath::tables::peer::{Path, Peer};
use crate::datapath::tables::session::Keys;
use crate::datapath::udp::{Sockets, UdpSocket};
use crate::datapath::wire::geneve::Way;
use crate::sys::event::EventFd;
use crate::sys::socket::{Outgoing, SEND_MAX};

/// Datagrams to one peer: cut every `size` bytes; the last may be shorter, and closes the run.
///
/// Each begins with what the path wants before it.
struct Run {
    keys: Arc<Keys>,
    path: Arc<Path>,
    start: usize,
    end: usize,
    size: usize,
    closed: bool,
}

impl Run {
    fn count(&self) -> usize {
        (self.end - self.start).div_ceil(self.size)
    }
}

/// All runs of one batch.
#[derive(Default)]
pub struct Runs(Vec<Run>);

/// Messages for one socket, and whose they are.
struct Batch<'a> {
    messages: Vec<Outgoing<'a>>,
    owners: Vec<(&'a Peer, &'a Path, Way)>,
    v4: bool,
}

impl Runs {
    /// A datagram of `size` bytes at `start`, right behind the one before.
    pub fn push(&mut self, keys: &Arc<Keys>, path: &Arc<Path>, start: usize, size: usize) {
        if let Some(last) = self.0.last_mut()
            && !last.closed
            && size <= last.size
            && Arc::ptr_eq(&last.keys, keys)
            && Arc::ptr_eq(&last.path, path)
        {
            last.end += size;
            last.closed = size < last.size;
            return;
        }
        self.0.push(Run {
            keys: Arc::clone(keys),
            path: Arc::clone(path),
            start,
            end: start + size,
            size,
            closed: false,
        });
    }

    /// Send everything, each run where its peer's path leads.
    pub fn send(&mut self, tables: &Tables, data: &[u8], stop: Option<&EventFd>) {
        let sockets = tables.sockets.load_full();
        let mut batch = Batch {
            messages: Vec::with_capacity(SEND_MAX),
            owners: Vec::with_capacity(SEND_MAX),
            v4: true,
        };
        for run in &self.0 {
            let path = &*run.path;
            let bytes = &data[run.start..run.end];
            if let Some((dst, to)) = path.udp {
                if dst.addr.is_ipv4() != batch.v4 {
                    batch.send(tables, &sockets, stop);
                    batch.v4 = dst.addr.is_ipv4();
                }
                let socket = sockets.towards(dst.addr);
                let chunk = socket.map_or(bytes.len(), |s| s.chunk(run.size, bytes.len()));
                for part in bytes.chunks(chunk) {
                    if batch.messages.len() == SEND_MAX {
                        batch.send(tables, &sockets, stop);
                    }
                    let segment = if part.len() > run.size { run.size } else { 0 };
                    batch.messages.push(Outgoing {
                        data: part,
                        tail: socket.map_or(&[], |s| s.tail(part.len(), run.size)),
                        to,
                        segment: segment as u16,
                    });
                    batch.owners.push((&run.keys.peer, path, dst));
                }
            }
            if path.relay {
                let head = path.head().map_or(0, |head| head.len());
                let cut = bytes.chunks(run.size).map(|d| d[head..].to_vec());
                let cut = cut.collect();
                tables.put_lossy(Upcall::RelayOut(run.keys.peer.id, cut), run.count());
            } else if path.udp.is_none() {
                tables.drops.add(Reason::OutNoPath, run.count());
            }
        }
        batch.send(tables, &sockets, stop);
        self.0.clear();
    }
}

impl Batch<'_> {
    fn send(&mut self, tables: &Tables, sockets: &Sockets, stop: Option<&EventFd>) {
        let socket: Option<&UdpSocket> = if self.v4 {
            sockets.v4.as_deref()
        } else {
            sockets.v6.as_deref()
        };
        let refused = |index: usize, errno: i32| {
            let message = &self.messages[index];
            let lost = match message.segment {
                0 => 1,
                size => message.data.len().div_ceil(usize::from(size)),
            };
            if errno == libc::EAGAIN {
                tables.drops.add(Reason::OutBacklog, lost);
                return;
            }
            tables.drops.add(Reason::OutSend, lost);
            let (peer, path, dst) = &self.owners[index];
            if !path.failed.swap(true, Ordering::Relaxed) {
                tables.upcalls.put(Upcall::PathFailed(peer.id, *dst, errno));
            }
        };
        match socket {
            Some(socket) => socket.send(&self.messages, stop, refused),
            None => (0..self.messages.len()).for_each(|i| refused(i, libc::EAFNOSUPPORT)),
        }
        self.messages.clear();
        self.owners.clear();
    }
}
