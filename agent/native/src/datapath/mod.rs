//! The datapath: see `tailnet.agent.datapath.interface`, and the reference for every decision.

pub mod control;
pub mod crypto;
pub mod filter;
#[cfg(test)]
mod hostile;
pub mod inbound;
pub mod offload;
pub mod outbound;
pub mod pace;
pub mod report;
pub mod tables;
pub mod threads;
pub mod tun;
pub mod udp;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwapOption;

use crate::clock::Clock;
use crate::sys::socket::{Incoming, Outgoing, SEND_MAX, SockAddr};
use control::Control;
use crypto::aead::Suite;
use filter::Policy;
use filter::reject::{Replies, give_up};
use inbound::Inbound;
use outbound::Outbound;
use report::drops::Reason;
use tables::Tables;
use tables::session::Session;
use tun::{Joined, Tun, TunWriter};
use udp::Sockets;

const STACK: usize = 256 << 10;
const RELAYED: usize = 256 << 10; // bytes of datagrams collected before they are written
const DATAGRAM: usize = 0xFFFF;

/// Lock; a panic elsewhere does not poison, for every section leaves its data whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What the slow path does itself, on its own thread.
struct Own {
    inbound: Inbound,
    outbound: Outbound,
    data: Vec<u8>,
    threads: Vec<JoinHandle<()>>,
    process: u32,
    started: bool,
}

/// Threads, tables and descriptors.  Every method may be called by any thread.
pub struct Datapath {
    /// Tables, counters and upcalls.
    pub tables: Arc<Tables>,
    control: Arc<Control>,
    tun: ArcSwapOption<Tun>,
    own: Mutex<Own>,
}

impl Datapath {
    /// One without descriptors.
    ///
    /// # Errors
    /// No descriptor is left for eventfds.
    pub fn new(clock: Clock, upcall_limit: usize, suite: Suite) -> io::Result<Self> {
        let mut tables = Tables::new(clock, upcall_limit)?;
        tables.suite = suite;
        let tables = Arc::new(tables);
        Ok(Self {
            control: Arc::new(Control::new()?),
            tun: ArcSwapOption::empty(),
            own: Mutex::new(Own {
                inbound: Inbound::new(Arc::clone(&tables), false, Joined::default()),
                outbound: Outbound::new(Arc::clone(&tables), None),
                data: Vec::new(),
                threads: Vec::new(),
                process: std::process::id(),
                started: false,
            }),
            tables,
        })
    }

    /// Take the device and begin.  Once per object.
    ///
    /// # Errors
    /// The second start, or no thread is left.
    pub fn start(&self, tun: Tun, sockets: Sockets) -> io::Result<()> {
        let mut own = lock(&self.own);
        if own.started {
            return Err(io::Error::other("the datapath was started before"));
        }
        own.started = true;
        own.outbound.mtu = tun.mtu;
        own.inbound = Inbound::new(Arc::clone(&self.tables), tun.vnet_hdr, tun.joined);
        own.inbound.mtu = tun.mtu;
        let tun = Arc::new(tun);
        self.tun.store(Some(Arc::clone(&tun)));
        self.tables.set_sockets(sockets);
        for queue in 0..tun.queues() {
            self.spawn(&mut own, &tun, &format!("tun-to-udp/{queue}"), {
                move |tables, control, tun| threads::run_outbound(tables, control, tun, queue)
            })?;
        }
        self.spawn(&mut own, &tun, "udp-to-tun", threads::run_inbound)?;
        if self.tables.service.load().is_some() {
            self.spawn(&mut own, &tun, "services", tun::service::run_service)?;
        }
        self.serve_sites(&mut own, &tun)
    }

    /// What peers send to sites goes to this packet socket; without one, to the host.
    ///
    /// # Errors
    /// No thread is left.
    pub fn set_sites(&self, socket: Option<OwnedFd>) -> io::Result<()> {
        let mut own = lock(&self.own);
        let old = self.tables.sites.swap(socket.map(Arc::new));
        old.as_deref().map(tun::sites::retire);
        match self.tun.load_full() {
            Some(tun) => self.serve_sites(&mut own, &tun),
            None => Ok(()),
        }
    }

    fn serve_sites(&self, own: &mut Own, tun: &Arc<Tun>) -> io::Result<()> {
        own.threads.retain(|thread| !thread.is_finished());
        let Some(socket) = self.tables.sites.load_full() else {
            return Ok(());
        };
        self.spawn(own, tun, "sites", move |tables, control, tun| {
            tun::sites::run_sites(tables, control, tun, &socket)
        })
    }

    fn spawn(
        &self,
        own: &mut Own,
        tun: &Arc<Tun>,
        name: &str,
        body: impl FnOnce(&Arc<Tables>, &Control, &Tun) -> Result<(), String> + Send + 'static,
    ) -> io::Result<()> {
        let (tables, control) = (Arc::clone(&self.tables), Arc::clone(&self.control));
        let tun = Arc::clone(tun);
        let run = move || threads::guarded(&tables, &control, || body(&tables, &control, &tun));
        let builder = thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK);
        own.threads.push(builder.spawn(run)?);
        Ok(())
    }

    /// Use other sockets; the old ones are closed when no thread is in them any more.
    pub fn set_sockets(&self, sockets: Sockets) {
        let own = lock(&self.own);
        if own.started && self.tun.load().is_some() {
            self.tables.set_sockets(sockets);
            self.control.rebound.set();
        }
    }

    /// Stop and close everything taken.  Idempotent.
    pub fn stop(&self) {
        self.control.end();
        let mut own = lock(&self.own);
        for handle in std::mem::take(&mut own.threads) {
            if own.process == std::process::id() {
                // A thread that panicked said so in an upcall.
                drop(handle.join());
            } else {
                std::mem::forget(handle); // after fork() there is nothing to join
            }
        }
        self.tables.set_sockets(Sockets::default());
        self.tables.service.store(None);
        self.tables.sites.store(None);
        self.tables.tap.set(None);
        self.tun.store(None);
    }

    /// Add a session; an initiator's flushes the peer's queue, or sends a keepalive.
    pub fn set_session(&self, id: u64, session: &Session) {
        let mut own = lock(&self.own);
        let Some(peer) = self.tables.peer(id) else {
            return;
        };
        self.tables.add_session(&peer, session);
        if session.initiator {
            let now = self.tables.clock.now();
            if !own.outbound.flush(&peer, now) {
                own.outbound.keepalive(&peer, now);
                own.outbound.transmit();
            }
        }
    }

    /// Change tables; one change at a time.
    pub fn with_tables<T>(&self, change: impl FnOnce(&Tables) -> T) -> T {
        let _own = lock(&self.own);
        change(&self.tables)
    }

    /// Replace destinations or rules of inbound packets.
    pub fn set_policy(&self, change: impl FnOnce(&mut Policy)) {
        let _own = lock(&self.own);
        let old = self.tables.policy.load();
        let mut policy = Policy::clone(&old);
        change(&mut policy);
        self.tables.policy.store(Arc::new(policy));
    }

    /// Send an empty packet on the current session, if there is one.
    pub fn send_keepalive(&self, id: u64) {
        let mut own = lock(&self.own);
        if let Some(peer) = self.tables.peer(id) {
            own.outbound.keepalive(&peer, self.tables.clock.now());
            own.outbound.transmit();
        }
    }

    /// Packets made by the daemon, to a peer.
    pub fn send_plain(&self, id: u64, packets: &[impl AsRef<[u8]>]) {
        let mut own = lock(&self.own);
        let Some(peer) = self.tables.peer(id) else {
            self.tables.drops.add(Reason::OutNoPeer, packets.len());
            return;
        };
        let now = self.tables.clock.now();
        for packet in packets {
            own.outbound.plain(&peer, packet.as_ref(), now);
            if own.outbound.full() {
                own.outbound.transmit();
            }
        }
        own.outbound.transmit();
    }

    /// Send datagrams as they are; returns 0 or an errno.
    pub fn send_udp(&self, dst: SocketAddr, datagrams: &[impl AsRef<[u8]>]) -> i32 {
        let sockets = self.tables.sockets.load();
        let Some(socket) = sockets.towards(dst) else {
            return libc::EAFNOSUPPORT;
        };
        let to = SockAddr::new(dst);
        let mut failed = 0;
        for some in datagrams.chunks(SEND_MAX) {
            let messages: Vec<Outgoing<'_>> = some
                .iter()
                .map(|data| Outgoing {
                    data: data.as_ref(),
                    tail: &[],
                    to,
                    segment: 0,
                })
                .collect();
            socket.send(&messages, None, |_, errno| failed = errno);
        }
        failed
    }

    /// Sealed transport messages that came through a relay.
    pub fn relay_in(&self, datagrams: &[impl AsRef<[u8]>]) {
        let mut own = lock(&self.own);
        let own = &mut *own;
        let tun = self.tun.load();
        let (tun, drops) = (tun.as_deref(), &self.tables.drops);
        let mut writer = TunWriter { tun, drops };
        let now = self.tables.clock.now();
        own.inbound.begin();
        own.data.clear();
        for datagram in datagrams {
            let datagram = datagram.as_ref();
            if datagram.is_empty() || datagram.len() > DATAGRAM {
                drops.add(Reason::InUnknown, 1);
                continue;
            }
            if own.data.len() >= RELAYED {
                own.inbound.write(&mut own.data, &mut writer);
                own.data.clear();
            }
            let message = Incoming {
                start: own.data.len(),
                len: datagram.len(),
                size: datagram.len(),
                src: None,
            };
            own.data.extend_from_slice(datagram);
            own.inbound.receive(&mut own.data, &message, now);
        }
        own.inbound.write(&mut own.data, &mut writer);
        for peer in own.inbound.confirmed.drain(..) {
            own.outbound.flush(&peer, now);
        }
        let vnet_hdr = tun.is_some_and(|tun| tun.vnet_hdr);
        own.inbound.replies.write(&mut writer, vnet_hdr);
        own.outbound.refuse(&mut own.inbound.replies, now);
    }

    /// The handshake was given up: drop what waits, and tell the host.
    pub fn discard_queue(&self, id: u64) {
        let Some(peer) = self.tables.peer(id) else {
            return;
        };
        let mut replies = Replies::default();
        give_up(&self.tables, &peer, &mut replies);
        let tun = self.tun.load();
        let (tun, drops) = (tun.as_deref(), &self.tables.drops);
        let vnet_hdr = tun.is_some_and(|tun| tun.vnet_hdr);
        replies.write(&mut TunWriter { tun, drops }, vnet_hdr);
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.stop();
    }
}
