//! One TCP connection: smoltcp on the packets' side, a stream socket on the other.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration as StdDuration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::outbox::Outbox;

const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
const ACCEPT_PATIENCE: Duration = Duration::from_secs(30);
const UNANSWERED: Duration = Duration::from_secs(120); // data or FIN without an acknowledgement
const HALF_CLOSED: Duration = Duration::from_secs(600); // we have ended, the peer says nothing
const IDLE: Duration = Duration::from_secs(7200); // then keepalives begin, as Linux does
const KEEPALIVE: Duration = Duration::from_secs(75);
const KEEPALIVES: Duration = Duration::from_secs(75 * 9);
const BURST: usize = 256; // packets of one connection until others get their turn

/// smoltcp's device: one packet in at most, the outbox out.
pub struct Port<'a> {
    /// The packet to be processed.
    pub packet: Option<&'a [u8]>,
    /// Where answers go.
    pub outbox: &'a mut Outbox,
    /// Bytes of one packet.
    pub mtu: usize,
}

/// Gives the packet.
pub struct Rx<'a>(&'a [u8]);

/// Takes one packet.
pub struct Tx<'a>(&'a mut Outbox);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.0.push(len, f)
    }
}

impl Device for Port<'_> {
    type RxToken<'b>
        = Rx<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.packet.take()?;
        Some((Rx(packet), Tx(self.outbox)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        if self.outbox.full() {
            None
        } else {
            Some(Tx(self.outbox))
        }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        // Checked before a packet gets here, filled in when it leaves.
        caps.checksum.tcp = Checksum::None;
        caps
    }
}

/// An interface with this address.
pub fn interface(addresses: &[IpAddr], mtu: usize, seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut outbox = Outbox::default();
    let mut device = Port {
        packet: None,
        outbox: &mut outbox,
        mtu,
    };
    let mut iface = Interface::new(config, &mut device, now);
    iface.update_ip_addrs(|list| {
        for address in addresses {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            if list
                .push(IpCidr::new(IpAddress::from(*address), bits))
                .is_err()
            {
                break; // more than a node has
            }
        }
    });
    iface
}

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
}

impl Conn {
    fn new(p: &Parameters, dialled: bool, now: Instant) -> Self {
        let iface = interface(&[p.local.ip()], p.mtu, p.seed, now);
        let buffer = |size| SocketBuffer::new(vec![0; size]);
        let mut socket = Socket::new(buffer(p.receive), buffer(p.send));
        socket.set_nagle_enabled(false);
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
        let mut port = Port {
            packet: Some(packet),
            outbox,
            mtu: self.mtu,
        };
        self.iface
            .poll_ingress_single(now, &mut port, &mut self.sockets);
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
                let result = self.iface.poll_egress(now, &mut port, &mut self.sockets);
                if result == PollResult::None {
                    break;
                }
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
        match self.iface.poll_at(now, &self.sockets) {
            Some(at) => Next::Wait(at.min(patience).max(now + Duration::from_millis(1))),
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

    /// Stream → send buffer.
    fn fill(&mut self) -> bool {
        let Some(stream) = &self.stream else {
            return false;
        };
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        let mut moved = false;
        while !self.local_ended && socket.can_send() {
            if !self.early.is_empty() {
                let sent = socket.send_slice(&self.early).unwrap_or(0);
                self.early.drain(..sent);
                moved = true;
                continue;
            }
            if !self.readable {
                break;
            }
            let got = socket.send(|buffer| match recv(stream, buffer, RecvFlags::DONTWAIT) {
                Ok((count, _)) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match got {
                Ok(Ok(0)) => {
                    socket.close();
                    self.local_ended = true;
                    moved = true;
                }
                Ok(Ok(_)) => moved = true,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => self.readable = false,
                Ok(Err(_)) | Err(_) => {
                    socket.abort();
                    return true;
                }
            }
        }
        moved
    }

    /// Receive buffer → stream.
    fn drain(&mut self) -> bool {
        let state = self.socket().state();
        self.note(state);
        let Some(stream) = &self.stream else {
            return false;
        };
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        let mut moved = false;
        while self.writable && socket.can_recv() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let put = socket.recv(|buffer| match send(stream, buffer, flags) {
                Ok(count) => (count, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match put {
                Ok(Ok(())) => moved = true,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => self.writable = false,
                Ok(Err(_)) | Err(_) => {
                    // Nobody reads any more.  What is left must not keep the connection alive.
                    self.writable = false;
                    self.local_ended = false;
                    socket.abort();
                    return true;
                }
            }
        }
        if self.remote_fin && !self.remote_ended && !socket.can_recv() {
            self.remote_ended = true;
            // Fails if the stream is gone; reading it tells.
            let _ = shutdown(stream.as_fd(), Shutdown::Write);
            self.readable = true;
            moved = true;
        }
        moved
    }

    /// When to give up, or to ask whether the peer is still there.
    fn patience(&mut self) -> Instant {
        let state = self.socket().state();
        let queued = self.socket().send_queue() > 0;
        let waits = match state {
            State::SynSent => return self.heard + CONNECT_PATIENCE,
            State::Listen | State::SynReceived => return self.heard + ACCEPT_PATIENCE,
            State::FinWait2 => HALF_CLOSED,
            State::FinWait1 | State::LastAck | State::Closing => UNANSWERED,
            _ if queued => UNANSWERED,
            _ if self.keepalive => return self.heard + IDLE + KEEPALIVES,
            _ => return self.heard + IDLE,
        };
        self.waiting_since
            .map_or(self.heard + IDLE, |since| since + waits)
    }

    /// Abort or send keepalives if it is time; true if that has to be sent.
    fn lose_patience(&mut self, now: Instant) -> bool {
        let state = self.socket().state();
        if state == State::Closed {
            return false;
        }
        let queued = self.socket().send_queue() > 0;
        if queued || !matches!(state, State::Established | State::CloseWait) {
            self.waiting_since.get_or_insert(now);
        } else {
            self.waiting_since = None;
        }
        if now < self.patience() {
            return false;
        }
        let idle = self.waiting_since.is_none() && !self.keepalive && self.established;
        if idle {
            self.keepalive = true;
            self.socket().set_keep_alive(Some(KEEPALIVE));
        } else {
            self.socket().abort();
        }
        true
    }
}
