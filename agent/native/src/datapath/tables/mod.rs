//! What both directions share: peers by handle, by destination and by session index.

pub mod masquerade;
pub mod members;
pub mod peer;
pub mod prefixes;
pub mod session;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::clock::Clock;
use crate::datapath::crypto::aead::Suite;
use crate::datapath::crypto::mac1::Mac1;
use crate::datapath::filter::Policy;
use crate::datapath::filter::flows::FlowCache;
use crate::datapath::filter::limiter::{Bucket, UNREACHABLE};
use crate::datapath::filter::opens::Opens;
use crate::datapath::report::drops::{Drops, Reason};
use crate::datapath::report::tap::Tap;
use crate::datapath::report::traffic::Traffic;
use crate::datapath::report::upcalls::{Upcall, Upcalls};
use crate::datapath::tables::members::{Entry, Members};
use crate::datapath::tables::peer::{Path, Peer};
use crate::datapath::tables::prefixes::Prefixes;
use crate::datapath::tables::session::{Keys, Session};
use crate::datapath::udp::Sockets;
use crate::hash::Seeded;

const FEW: usize = 32; // sessions

type Sessions = HashMap<u32, Arc<Keys>, Seeded>;

/// Everything that more than one thread sees.
///
/// Whole tables are swapped.  The few locks guard short native sections: nobody holds one while
/// waiting for Python.
pub struct Tables {
    /// The time.
    pub clock: Clock,
    /// Who seals and opens.
    pub suite: Suite,
    /// Counters.
    pub drops: Drops,
    /// What was carried.
    pub traffic: Traffic,
    /// To the slow path.
    pub upcalls: Upcalls,
    /// Destination → peer.
    pub routes: ArcSwap<Prefixes<Arc<Peer>>>,
    /// What may enter.
    pub policy: ArcSwap<Policy>,
    /// Replies that may enter.
    pub flows: Mutex<FlowCache>,
    /// Connections the host is opening.
    pub opens: Mutex<Opens>,
    /// Of ICMP messages to the host.
    pub unreachable: Mutex<Bucket>,
    /// Sockets in use.
    pub sockets: ArcSwap<Sockets>,
    /// Checks handshakes for us before they reach the slow path.
    pub mac1: ArcSwapOption<Mac1>,
    /// Where packets for the daemon's own services go; set before the start.
    pub service: ArcSwapOption<OwnedFd>,
    /// Where packets to sites go.
    pub sites: ArcSwapOption<OwnedFd>,
    /// Who looks at the packets.
    pub tap: Tap,
    sessions: RwLock<Sessions>,
    peers: Mutex<Members>,
}

impl Tables {
    /// Empty ones.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(clock: Clock, upcall_limit: usize) -> io::Result<Self> {
        Ok(Self {
            clock,
            suite: Suite::default(),
            drops: Drops::default(),
            traffic: Traffic::default(),
            upcalls: Upcalls::new(upcall_limit)?,
            routes: ArcSwap::default(),
            policy: ArcSwap::default(),
            flows: Mutex::default(),
            opens: Mutex::default(),
            unreachable: Mutex::new(Bucket::full(&UNREACHABLE)),
            sockets: ArcSwap::default(),
            mac1: ArcSwapOption::empty(),
            service: ArcSwapOption::empty(),
            sites: ArcSwapOption::empty(),
            tap: Tap::default(),
            sessions: RwLock::default(),
            peers: Mutex::default(),
        })
    }

    /// A peer by its handle.
    pub fn peer(&self, id: u64) -> Option<Arc<Peer>> {
        crate::datapath::lock(&self.peers).get(id).cloned()
    }

    /// All peers, with their prefixes.  The last of two that claim one prefix has it.
    pub fn set_peers(&self, entries: &[(u64, Entry)]) {
        let mut peers = crate::datapath::lock(&self.peers);
        let mut old = std::mem::take(&mut *peers);
        let mut routes = Prefixes::default();
        for (id, entry) in entries {
            peers.set(*id, entry, old.take(*id), &mut routes);
        }
        self.routes.store(Arc::new(routes));
        old.peers().for_each(|peer| self.retire(peer));
    }

    /// Only these, `None` being gone.  Readers keep the table of before until this is done.
    pub fn change_peers(&self, entries: &[(u64, Option<Entry>)]) {
        let mut peers = crate::datapath::lock(&self.peers);
        let mut routes = Prefixes::clone(&self.routes.load());
        let mut gone = Vec::new();
        for (id, entry) in entries {
            if entry.is_none() {
                gone.extend(peers.remove(*id, &mut routes));
            }
        }
        for (id, entry) in entries {
            if let Some(entry) = entry {
                peers.change(*id, entry, &mut routes);
            }
        }
        self.routes.store(Arc::new(routes));
        gone.iter().for_each(|peer| self.retire(peer));
    }

    fn retire(&self, peer: &Peer) {
        let gone = crate::datapath::lock(&peer.slots).clear();
        peer.current.store(None);
        self.forget(&gone);
        let waiting = self.take_queue(peer).len();
        self.drops.add(Reason::OutDiscarded, waiting);
        peer.path.store(Arc::default());
    }

    /// Take what waits for a session out, and allow another question.
    pub fn take_queue(&self, peer: &Peer) -> VecDeque<Vec<u8>> {
        let mut queue = crate::datapath::lock(&peer.queue);
        queue.asked = false;
        peer.queued.store(false, Ordering::Release);
        std::mem::take(&mut queue.packets)
    }

    /// Where to send from now on.
    pub fn set_path(&self, id: u64, path: Path) {
        if let Some(peer) = self.peer(id) {
            peer.path.store(Arc::new(path));
        }
    }

    /// Use other sockets; refusals may be reported anew.
    pub fn set_sockets(&self, sockets: Sockets) {
        self.sockets.store(Arc::new(sockets));
        for peer in crate::datapath::lock(&self.peers).peers() {
            peer.path.load().failed.store(false, Ordering::Relaxed);
        }
    }

    /// Remember nothing that was sent.
    pub fn forget_flows(&self) {
        *crate::datapath::lock(&self.flows) = FlowCache::default();
    }

    /// A session by our index.
    pub fn session(&self, local: u32) -> Option<Arc<Keys>> {
        let sessions = self.sessions.read().unwrap_or_else(|e| e.into_inner());
        sessions.get(&local).cloned()
    }

    /// True where there are more sessions than stay in the processor's cache beside all else.
    pub fn crowded(&self) -> bool {
        let sessions = self.sessions.read().unwrap_or_else(|e| e.into_inner());
        sessions.len() > FEW
    }

    /// Several by our indices: the memory of all is asked for before that of the first is touched.
    pub fn sessions<const N: usize>(&self, locals: [Option<u32>; N]) -> [Option<Arc<Keys>>; N] {
        let sessions = self.sessions.read().unwrap_or_else(|e| e.into_inner());
        let found = locals.map(|local| sessions.get(&local?));
        found
            .iter()
            .flatten()
            .for_each(|keys| keys.prefetch_to_open());
        found.map(|keys| keys.cloned())
    }

    /// Put a session into its slot and into the index.
    pub fn add_session(&self, peer: &Arc<Peer>, session: &Session) {
        let keys = Arc::new(Keys::new(Arc::clone(peer), session));
        let mut slots = crate::datapath::lock(&peer.slots);
        let gone = if session.initiator {
            slots.add_initiator(Arc::clone(&keys))
        } else {
            slots.add_responder(Arc::clone(&keys))
        };
        self.forget(&gone);
        let mut sessions = self.sessions.write().unwrap_or_else(|e| e.into_inner());
        sessions.insert(session.local, keys);
        drop(sessions);
        peer.current.store(slots.current.clone());
        drop(slots);
        crate::datapath::lock(&peer.queue).asked = false;
    }

    /// The first packet came on a responder's session.  True if it became current.
    pub fn confirm(&self, keys: &Arc<Keys>) -> bool {
        if !keys.unconfirmed.swap(false, Ordering::Relaxed) {
            return false;
        }
        let peer = &keys.peer;
        let mut slots = crate::datapath::lock(&peer.slots);
        let Some(gone) = slots.confirm(keys) else {
            return false;
        };
        peer.current.store(slots.current.clone());
        drop(slots);
        self.forget(&gone);
        self.upcalls.put(Upcall::Confirmed(peer.id, keys.local));
        true
    }

    /// Forget one session, in whichever slot it is.
    pub fn drop_session(&self, local: u32) {
        let mut sessions = self.sessions.write().unwrap_or_else(|e| e.into_inner());
        let keys = sessions.remove(&local);
        drop(sessions);
        if let Some(keys) = keys {
            let mut slots = crate::datapath::lock(&keys.peer.slots);
            slots.remove(&keys);
            keys.peer.current.store(slots.current.clone());
        }
    }

    fn forget(&self, gone: &[Arc<Keys>]) {
        if gone.is_empty() {
            return;
        }
        let mut sessions = self.sessions.write().unwrap_or_else(|e| e.into_inner());
        for keys in gone {
            if sessions
                .get(&keys.local)
                .is_some_and(|known| Arc::ptr_eq(known, keys))
            {
                sessions.remove(&keys.local);
            }
        }
    }

    /// Put an upcall that may get lost; `count` packets are counted then.
    pub fn put_lossy(&self, upcall: Upcall, count: usize) {
        if !self.upcalls.put(upcall) {
            self.drops.add(Reason::UpcallsFull, count);
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        self.set_peers(&[]); // sessions and peers hold each other
    }
}
