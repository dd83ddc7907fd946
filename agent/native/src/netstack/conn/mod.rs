//! One TCP connection: smoltcp on the packets' side, a stream socket on the other.

mod haste;
mod patience;
mod pump;
mod recovery;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration as StdDuration;

use rustix::net::sockopt;
use smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};

use super::device::{Port, interface};
use super::outbox::Outbox;
use patience::CONNECT_PATIENCE;
use recovery::Recovery;

const ACK_DELAY: Duration = Duration::from_millis(10);
const BURST: usize = 256; // packets of one connection until others get their turn

/// What a connection wants after it was driven.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing before this time, unless something happens.
    Wait(Instant),
    /// The outbox is full: drive again when it is not.
    Blocked,
    /// There is more to do at once.
    Again,
    /// It has ended; empty, or why it failed.
    Over(&'static str),
}

/// What smoltcp needs to begin.
pub struct Parameters {
    /// Our side.
    pub local: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
    /// Of one packet [bytes].
    pub mtu: usize,
    /// Receive buffer [bytes].
    pub receive: usize,
    /// Send buffer [bytes].
    pub send: usize,
    /// Random.
    pub seed: u64,
}

/// One connection.
pub struct Conn {
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    mtu: usize,
    /// Our side.
    pub local: SocketAddr,
    /// The other.
    pub remote: SocketAddr,
    /// We dialled.
    pub dialled: bool,
    /// The three-way handshake is complete.
    pub established: bool,
    /// When the stack will drive it by itself.
    pub timer: Option<Instant>,
    /// It is in the list of those to be driven.
    pub queued: bool,
    stream: Option<OwnedFd>,
    early: Vec<u8>,
    readable: bool,
    writable: bool,
    local_ended: bool,
    remote_ended: bool,
    remote_fin: bool,
    keepalive: bool,
    heard: Instant,
    waiting_since: Option<Instant>,
    recovery: Recovery,
}

impl Conn {
    fn new(p: &Parameters, dialled: bool, now: Instant) -> Self {
        let iface = interface(&[p.local.ip()], p.mtu, p.seed, haste::inner(now));
        let buffer = |size| SocketBuffer::new(vec![0; size]);
        let mut socket = Socket::new(buffer(p.receive), buffer(p.send));
        socket.set_nagle_enabled(false);
        socket.set_congestion_control(CongestionControl::Cubic);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self {
            iface,
            sockets,
            handle,
            mtu: p.mtu,
            local: p.local,
            remote: p.remote,
            dialled,
            established: false,
            timer: None,
            queued: false,
            stream: None,
            early: Vec::new(),
            readable: false,
            writable: false,
            local_ended: false,
            remote_ended: false,
            remote_fin: false,
            keepalive: false,
            heard: now,
            waiting_since: None,
            recovery: Recovery::default(),
        }
    }

    /// Begin to dial; `None` if the addresses make no sense.
    pub fn dial(p: &Parameters, now: Instant) -> Option<Self> {
        let mut conn = Self::new(p, true, now);
        let socket = conn.sockets.get_mut::<Socket>(conn.handle);
        socket
            .connect(conn.iface.context(), p.remote, p.local)
            .ok()?;
        Some(conn)
    }

    /// Take a peer's first SYN; it is answered once the connection is joined.
    pub fn accept(p: &Parameters, now: Instant, syn: &[u8], outbox: &mut Outbox) -> Option<Self> {
        let mut conn = Self::new(p, false, now);
        let socket = conn.socket();
        socket.listen(p.local).ok()?;
        socket.pause_synack(true);
        conn.ingress(syn, now, outbox);
        (conn.socket().state() == State::SynReceived).then_some(conn)
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// A packet of this connection.
    pub fn ingress(&mut self, packet: &[u8], now: Instant, outbox: &mut Outbox) {
        // smoltcp waits for a second segment before it acknowledges, and takes joined ones for one.
        // Where their sender waits for the acknowledgement, as behind a relay's short queue, no
        // second one comes (RFC 9293 SHLD-19).
        let joined = packet.len() > self.mtu;
        let delay = if joined { Duration::ZERO } else { ACK_DELAY };
        self.socket().set_ack_delay(Some(haste::span(delay)));
        for _ in 0..=self.recovery.received(packet) {
            let mut port = Port {
                packet: Some(packet),
                outbox,
                mtu: self.mtu,
            };
            self.iface
                .poll_ingress_single(haste::inner(now), &mut port, &mut self.sockets);
        }
        self.heard = now;
        self.waiting_since = None;
        if self.keepalive {
            self.keepalive = false;
            self.socket().set_keep_alive(None);
        }
    }

    /// Give it its stream, and bytes that go out before those of the stream.
    pub fn join(&mut self, stream: OwnedFd, early: Vec<u8>) {
        self.stream = Some(stream);
        self.early = early;
        self.readable = true;
        self.writable = true;
        self.socket().pause_synack(false);
    }

    /// The stream became readable or writable.
    pub fn ready(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// End it at once; the RST leaves with the next drive.
    pub fn abort(&mut self) {
        self.socket().pause_synack(false);
        self.socket().abort();
    }

    /// The stream, to be closed; a connection that failed resets it.
    pub fn into_stream(mut self, failed: bool) -> Option<OwnedFd> {
        let stream = self.stream.take()?;
        if failed {
            // Fails for sockets that are not TCP, for which it means nothing.
            let _ = sockopt::set_socket_linger(&stream, Some(StdDuration::ZERO));
        }
        Some(stream)
    }

    /// Move what can be moved in both directions.
    pub fn drive(&mut self, now: Instant, outbox: &mut Outbox) -> Next {
        let mut left = BURST;
        let mut patience_ended = false;
        loop {
            let mut moved = self.drain();
            moved |= self.fill();
            while left > 0 {
                let mut port = Port {
                    packet: None,
                    outbox,
                    mtu: self.mtu,
                };
                let result =
                    self.iface
                        .poll_egress(haste::inner(now), &mut port, &mut self.sockets);
                if result == PollResult::None {
                    break;
                }
                self.recovery.sent(outbox.last());
                moved = true;
                left -= 1;
            }
            if left == 0 || outbox.full() {
                break;
            }
            if !moved {
                patience_ended = !patience_ended && self.lose_patience(now);
                if !patience_ended {
                    break;
                }
            }
        }
        self.next(now, left == 0, outbox.full())
    }

    fn next(&mut self, now: Instant, again: bool, full: bool) -> Next {
        let state = self.socket().state();
        self.note(state);
        let drained = !self.socket().can_recv();
        let clean = self.remote_fin && self.local_ended;
        match state {
            State::Closed if clean && drained => return Next::Over(""),
            State::Closed if clean => {} // the stream has yet to take the rest
            State::Closed if full => return Next::Blocked, // the RST has to leave
            State::Closed => return Next::Over(self.reason(now)),
            State::TimeWait if drained && self.remote_ended && !full => return Next::Over(""),
            _ => {}
        }
        if full {
            return Next::Blocked;
        }
        if again {
            return Next::Again;
        }
        let patience = self.patience();
        match self.iface.poll_at(haste::inner(now), &self.sockets) {
            Some(at) => Next::Wait(
                haste::outer(at)
                    .min(patience)
                    .max(now + Duration::from_millis(1)),
            ),
            None => Next::Wait(patience),
        }
    }

    fn reason(&self, now: Instant) -> &'static str {
        match (self.established, self.dialled) {
            (true, _) => "reset",
            (false, true) if now - self.heard >= CONNECT_PATIENCE => "timed out",
            (false, true) => "refused",
            (false, false) => "gone",
        }
    }

    fn note(&mut self, state: State) {
        use State::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, TimeWait};
        self.established |= matches!(
            state,
            Established | CloseWait | FinWait1 | FinWait2 | Closing | LastAck | TimeWait
        );
        self.remote_fin |= matches!(state, CloseWait | LastAck | Closing | TimeWait);
    }
}
