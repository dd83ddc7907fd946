//! Connections come and go.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::epoll;
use smoltcp::time::Instant;

use super::super::conn::{Conn, Parameters};
use super::super::events::EventKind;
use super::super::ip::is_hosts;
use super::{FIRST_PORT, PORTS, Stack, random};

impl Stack {
    fn parameters(&self, local: SocketAddr, remote: SocketAddr) -> Parameters {
        // The more connections, the less each may keep: see `docs/performance.md`.
        let (receive, send) = match self.conns.len() {
            0..64 => (1 << 20, 1 << 18),
            64..512 => (1 << 18, 1 << 17),
            _ => (1 << 16, 1 << 17),
        };
        Parameters {
            local,
            remote,
            mtu: self.limits.mtu,
            receive,
            send,
            seed: random(),
        }
    }

    pub(super) fn dial(&mut self, id: u64, local: IpAddr, remote: SocketAddr, now: Instant) {
        let conn = if !is_hosts(local) || !is_hosts(remote.ip()) {
            Err("not an address of a host")
        } else if self.conns.len() >= self.limits.streams {
            Err("too many connections")
        } else {
            self.free_port(local, remote)
                .and_then(|local| Conn::dial(&self.parameters(local, remote), now))
                .ok_or("too many connections")
        };
        match conn {
            Ok(conn) => self.insert(id, conn),
            Err(why) => {
                let local = SocketAddr::new(local, 0);
                self.tell(EventKind::Failed, id, local, remote, why.as_bytes());
            }
        }
    }

    fn free_port(&mut self, local: IpAddr, remote: SocketAddr) -> Option<SocketAddr> {
        for _ in 0..PORTS {
            self.port = FIRST_PORT + (self.port - FIRST_PORT + 1) % PORTS;
            let local = SocketAddr::new(local, self.port);
            if !self.flows.contains_key(&(local, remote)) {
                return Some(local);
            }
        }
        None
    }

    pub(super) fn accept(&mut self, syn: &[u8], src: SocketAddr, dst: SocketAddr, now: Instant) {
        if let Some(victim) = self.half_open.victim(src.ip()) {
            self.stats.syn_dropped.fetch_add(1, Relaxed);
            self.remove(victim, "too many at once");
        }
        if self.conns.len() >= self.limits.streams {
            self.stats.syn_dropped.fetch_add(1, Relaxed);
            return;
        }
        let parameters = self.parameters(dst, src);
        if let Some(conn) = Conn::accept(&parameters, now, syn, &mut self.outbox) {
            let id = self.ids.fetch_add(1, Relaxed);
            self.insert(id, conn);
            self.tell(EventKind::Syn, id, dst, src, b"");
        }
    }

    fn insert(&mut self, id: u64, conn: Conn) {
        self.flows.insert((conn.local, conn.remote), id);
        if !conn.dialled {
            self.half_open.add(id, conn.remote.ip());
        }
        self.conns.insert(id, conn);
        self.count();
        self.activate(id);
    }

    pub(super) fn count(&self) {
        self.stats.streams.store(self.conns.len() as u64, Relaxed);
        self.stats
            .half_open
            .store(self.half_open.len() as u64, Relaxed);
    }

    pub(super) fn join(&mut self, id: u64, stream: OwnedFd, early: Vec<u8>) {
        // A connection that has ended meanwhile: closing the stream says so.
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        if epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(id), flags).is_err() {
            conn.abort();
        } else {
            conn.join(stream, early);
        }
        self.activate(id);
    }

    /// A router or host says that a segment of ours did not arrive.  That ends a dial; what is
    /// established outlives it (RFC 1122 §4.2.3.9).
    pub(super) fn undelivered(&mut self, local: SocketAddr, remote: SocketAddr, why: &str) {
        let id = self.flows.get(&(local, remote)).copied();
        let dialling = |conn: &Conn| conn.dialled && !conn.established;
        match id {
            Some(id) if self.conns.get(&id).is_some_and(dialling) => self.remove(id, why),
            _ => self.ignore(),
        }
    }

    pub(super) fn remove(&mut self, id: u64, why: &str) {
        let Some(conn) = self.conns.remove(&id) else {
            return;
        };
        self.flows.remove(&(conn.local, conn.remote));
        if let Some(at) = conn.timer {
            self.timers.remove(&(at, id));
        }
        self.half_open.remove(id);
        self.count();
        let failed = conn.dialled && !conn.established;
        let kind = if failed {
            EventKind::Failed
        } else {
            EventKind::Closed
        };
        self.tell(kind, id, conn.local, conn.remote, why.as_bytes());
        if let Some(stream) = conn.into_stream(!why.is_empty()) {
            // Python may hold the same socket: then closing alone would not unregister it.
            let _ = epoll::delete(&self.epoll, &stream);
        }
    }
}
