//! All connections of one node, without the thread that drives them.

mod datagrams;
mod half_open;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::event::epoll;
use rustix::io::Errno;
use smoltcp::time::Instant;

use super::conn::{Conn, Next, Parameters};
use super::events::{Event, EventKind, Events};
use super::ingress::{Packet, parse};
use super::outbox::Outbox;
use super::reassembly::Reassembly;
use super::responder::Responder;
use super::stats::{Limits, Stats};
use half_open::HalfOpen;

const FIRST_PORT: u16 = 32_768;
const PORTS: u16 = 28_232; // as Linux: 32768 to 60999

/// What the thread is asked to do.
pub enum Command {
    /// Our addresses.
    Addresses(Vec<IpAddr>),
    /// Connect.
    Dial(u64, IpAddr, SocketAddr),
    /// Give a connection its stream.
    Join(u64, OwnedFd, Vec<u8>),
    /// End a connection.
    Abort(u64),
    /// Send a datagram.
    Udp(SocketAddr, SocketAddr, Vec<u8>),
    /// Send an ICMP message.
    Icmp(IpAddr, IpAddr, Vec<u8>),
    /// Say that nobody listens on a UDP port of ours.
    RefuseUdp(SocketAddr, SocketAddr),
}

/// All connections.
pub struct Stack {
    limits: Limits,
    addresses: Vec<IpAddr>,
    conns: HashMap<u64, Conn>,
    flows: HashMap<(SocketAddr, SocketAddr), u64>,
    active: Vec<u64>,
    blocked: Vec<u64>,
    timers: BTreeSet<(Instant, u64)>,
    responder: Responder,
    reassembly: Reassembly,
    half_open: HalfOpen,
    port: u16,
    fragment_id: u32,
    ids: Arc<AtomicU64>,
    events: Arc<Events>,
    stats: Arc<Stats>,
    /// Packets on their way out.
    pub outbox: Outbox,
    /// Streams are registered here, edge-triggered, under the connection's number.
    pub epoll: OwnedFd,
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl Stack {
    /// Empty.
    pub fn new(
        limits: Limits,
        ids: Arc<AtomicU64>,
        events: Arc<Events>,
        stats: Arc<Stats>,
        now: Instant,
    ) -> Result<Self, Errno> {
        Ok(Self {
            limits,
            addresses: Vec::new(),
            conns: HashMap::new(),
            flows: HashMap::new(),
            active: Vec::new(),
            blocked: Vec::new(),
            timers: BTreeSet::new(),
            responder: Responder::new(&[], limits.mtu, random(), now),
            reassembly: Reassembly::default(),
            half_open: HalfOpen::new(limits.half_open),
            fragment_id: random() as u32,
            port: FIRST_PORT + (random() % u64::from(PORTS)) as u16,
            ids,
            events,
            stats,
            outbox: Outbox::default(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    /// Do as Python says.
    pub fn command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Addresses(addresses) => {
                self.responder = Responder::new(&addresses, self.limits.mtu, random(), now);
                self.addresses = addresses;
            }
            Command::Dial(id, local, remote) => self.dial(id, local, remote, now),
            Command::Join(id, stream, early) => self.join(id, stream, early),
            Command::Abort(id) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.abort();
                    self.activate(id);
                }
            }
            Command::Udp(src, dst, data) => self.send_udp(src, dst, &data),
            Command::Icmp(src, dst, message) => self.send_icmp(src, dst, message),
            Command::RefuseUdp(local, remote) => self.refuse_udp(local, remote),
        }
    }

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

    fn dial(&mut self, id: u64, local: IpAddr, remote: SocketAddr, now: Instant) {
        let conn = if self.conns.len() < self.limits.streams {
            self.free_port(local, remote)
                .and_then(|local| Conn::dial(&self.parameters(local, remote), now))
        } else {
            None
        };
        match conn {
            Some(conn) => self.insert(id, conn),
            None => {
                let local = SocketAddr::new(local, 0);
                self.tell(
                    EventKind::Failed,
                    id,
                    local,
                    remote,
                    b"too many connections",
                );
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

    fn insert(&mut self, id: u64, conn: Conn) {
        self.flows.insert((conn.local, conn.remote), id);
        if !conn.dialled {
            self.half_open.add(id, conn.remote.ip());
        }
        self.conns.insert(id, conn);
        self.count();
        self.activate(id);
    }

    fn count(&self) {
        self.stats.streams.store(self.conns.len() as u64, Relaxed);
        self.stats
            .half_open
            .store(self.half_open.len() as u64, Relaxed);
    }

    fn join(&mut self, id: u64, stream: OwnedFd, early: Vec<u8>) {
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

    fn activate(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.queued
        {
            conn.queued = true;
            self.active.push(id);
        }
    }

    /// A stream became readable or writable.
    pub fn ready(&mut self, id: u64, readable: bool, writable: bool) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.ready(readable, writable);
            self.activate(id);
        }
    }

    /// One read of the packet socket.  TCP and UDP may be for any address: the datapath lets in
    /// only the node's own and its routes', and Python decides what becomes of a connection.
    pub fn ingress(&mut self, read: &[u8], now: Instant) {
        match parse(read) {
            Some((packet, what)) => self.handle(packet, what, now),
            None => self.ignore(),
        }
    }

    fn handle(&mut self, packet: &[u8], what: Packet<'_>, now: Instant) {
        match what {
            Packet::Tcp { src, dst, opens } => self.tcp(packet, src, dst, opens, now),
            Packet::Udp { src, dst, payload } => self.datagram(EventKind::Udp, dst, src, payload),
            Packet::Icmp {
                src,
                dst,
                says,
                message,
            } => self.icmp(src, dst, says, message),
            Packet::Fragment(part) => self.fragment(&part, now),
            Packet::Other { dst } => self.respond(packet, dst, now),
        }
    }

    fn ignore(&self) {
        self.stats.ignored.fetch_add(1, Relaxed);
    }

    /// What no connection wants: smoltcp knows what to say about it.
    fn respond(&mut self, packet: &[u8], dst: IpAddr, now: Instant) {
        if self.addresses.contains(&dst) {
            self.responder.ingress(packet, now, &mut self.outbox);
        } else {
            self.ignore();
        }
    }

    fn tcp(&mut self, ip: &[u8], src: SocketAddr, dst: SocketAddr, opens: bool, now: Instant) {
        if let Some(&id) = self.flows.get(&(dst, src)) {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.ingress(ip, now, &mut self.outbox);
            }
            self.activate(id);
        } else if !opens || src.port() == 0 || dst.port() == 0 {
            self.respond(ip, dst.ip(), now);
        } else {
            self.accept(ip, src, dst, now);
        }
    }

    fn accept(&mut self, syn: &[u8], src: SocketAddr, dst: SocketAddr, now: Instant) {
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

    /// A router or host says that a segment of ours did not arrive.  That ends a dial; what is
    /// established outlives it (RFC 1122 §4.2.3.9).
    fn undelivered(&mut self, local: SocketAddr, remote: SocketAddr, why: &str) {
        let id = self.flows.get(&(local, remote)).copied();
        let dialling = |conn: &Conn| conn.dialled && !conn.established;
        match id {
            Some(id) if self.conns.get(&id).is_some_and(dialling) => self.remove(id, why),
            _ => self.ignore(),
        }
    }

    /// False if it was a datagram for which no room was.
    fn tell(
        &self,
        kind: EventKind,
        stream: u64,
        local: SocketAddr,
        remote: SocketAddr,
        data: &[u8],
    ) -> bool {
        self.events.push(Event {
            kind,
            stream,
            local,
            remote,
            data: data.to_vec(),
        })
    }

    /// Drive what has something to do; when to come back, `None` for "at once".
    pub fn run(&mut self, now: Instant, packets: BorrowedFd<'_>) -> Result<Option<Instant>, Errno> {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.timer = None;
            }
            self.activate(id);
        }
        let mut free = self.outbox.flush(packets)?;
        if free {
            for id in std::mem::take(&mut self.blocked) {
                self.activate(id);
            }
        }
        for id in std::mem::take(&mut self.active) {
            self.drive(id, now);
            if self.outbox.full() {
                free = self.outbox.flush(packets)?;
            }
        }
        if free {
            free = self.outbox.flush(packets)?;
        }
        if !self.active.is_empty() || (free && !self.blocked.is_empty()) {
            return Ok(None);
        }
        Ok(Some(
            self.timers.first().map_or(now + LONGEST, |&(at, _)| at),
        ))
    }

    fn drive(&mut self, id: u64, now: Instant) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.queued = false;
        let before = conn.established;
        let next = conn.drive(now, &mut self.outbox);
        if conn.established && !before {
            let (dialled, local, remote) = (conn.dialled, conn.local, conn.remote);
            if dialled {
                self.tell(EventKind::Connected, id, local, remote, b"");
            } else {
                self.half_open.remove(id);
                self.count();
            }
        }
        match next {
            Next::Wait(at) => self.arm(id, at),
            Next::Again => self.activate(id),
            Next::Blocked => self.blocked.push(id),
            Next::Over(why) => self.remove(id, why),
        }
    }

    fn arm(&mut self, id: u64, at: Instant) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match conn.timer {
            Some(earlier) if earlier <= at => return, // it will look again
            Some(later) => {
                self.timers.remove(&(later, id));
            }
            None => {}
        }
        conn.timer = Some(at);
        self.timers.insert((at, id));
    }

    fn remove(&mut self, id: u64, why: &str) {
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

const LONGEST: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(3600);
