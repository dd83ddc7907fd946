//! All connections of one node, without the thread that drives them.

mod connections;
mod datagrams;
mod drive;
mod half_open;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::event::epoll;
use rustix::io::Errno;
use smoltcp::time::Instant;

use super::conn::Conn;
use super::events::{Event, EventKind, Events};
use super::ingress::{Packet, parse};
use super::ip::is_hosts;
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
            Command::Addresses(mut addresses) => {
                addresses.retain(|address| is_hosts(*address));
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
}
