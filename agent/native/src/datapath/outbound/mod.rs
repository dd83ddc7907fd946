//! From IP packets to sealed datagrams.

pub mod judge;

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use crate::datapath::crypto::aead::Cipher;
use crate::datapath::crypto::aead::TAG;
use crate::datapath::filter;
use crate::datapath::filter::flows::Flow;
use crate::datapath::filter::reject::Replies;
use crate::datapath::offload::split::Cut;
use crate::datapath::report::drops::Reason;
use crate::datapath::report::tap::Direction;
use crate::datapath::report::traffic::Kind;
use crate::datapath::report::upcalls::Upcall;
use crate::datapath::tables::Tables;
use crate::datapath::tables::peer::{Path, Peer, Queue};
use crate::datapath::tables::prefixes::Prefixes;
use crate::datapath::tables::session::{HEADER, Keys};
use crate::datapath::udp::run::Runs;
use crate::datapath::wire::geneve;
use crate::datapath::wire::packet::{Parsed, parse_untrusted};
use crate::sys::event::EventFd;

/// Bytes of sealed datagrams after which sending them is better than waiting.
const FLUSH: usize = 256 << 10;
const RESERVE: usize = geneve::LEN + HEADER + 0xFFFF + 16 + TAG;

/// Length with padding: a multiple of 16, but never beyond the MTU (0: no limit).
///
/// Source: wireguard-go device/send.go, calculatePaddingSize.
pub fn padded(length: usize, mtu: usize) -> usize {
    if mtu == 0 {
        return length.next_multiple_of(16);
    }
    let last = if length > mtu { length % mtu } else { length };
    length - last + last.next_multiple_of(16).min(mtu)
}

/// Chooses the peer, seals in place, and sends runs of equal datagrams.
pub struct Outbound {
    tables: Arc<Tables>,
    cipher: Cipher,
    buffer: Vec<u8>,
    pos: usize,
    runs: Runs,
    // The flow of the packet before: most packets follow one of their own.
    routes: Arc<Prefixes<Arc<Peer>>>,
    last: Option<(Flow, Arc<Peer>)>,
    stop: Option<Arc<EventFd>>,
    /// Answers to what nobody takes.
    pub replies: Replies,
    /// Of the TUN device.
    pub mtu: usize,
}

impl Outbound {
    /// With `stop`, a full socket is waited for until that is set.
    pub fn new(tables: Arc<Tables>, stop: Option<Arc<EventFd>>) -> Self {
        Self {
            routes: tables.routes.load_full(),
            cipher: tables.suite.cipher(),
            tables,
            buffer: vec![0; FLUSH + RESERVE],
            pos: 0,
            runs: Runs::default(),
            last: None,
            stop,
            replies: Replies::default(),
            mtu: 0,
        }
    }

    /// True if sending is due before more is fed.
    pub fn full(&self) -> bool {
        self.pos >= FLUSH
    }

    /// A packet of the daemon's own: no verdict, but replies to it may enter.
    pub fn plain(&mut self, peer: &Arc<Peer>, packet: &[u8], now: f64) {
        let parsed: Option<Parsed> = parse_untrusted(packet);
        match parsed {
            Some(parsed) => {
                filter::note_sent(&parsed, &self.tables.flows);
                self.send(peer, &Cut::Whole(packet), now);
            }
            None => self.tables.drops.add(Reason::OutMalformed, 1),
        }
    }

    /// Refusals for peers, sent.
    pub fn refuse(&mut self, replies: &mut Replies, now: f64) {
        let refusals = replies.to_peers();
        if refusals.is_empty() {
            return;
        }
        for (peer, packet) in refusals {
            self.plain(&peer, &packet, now);
        }
        self.transmit();
    }

    /// An empty packet, if there is a session.
    pub fn keepalive(&mut self, peer: &Arc<Peer>, now: f64) {
        if let Some(keys) = peer.usable(now) {
            self.seal(&keys, &Cut::Whole(&[]), now);
        }
    }

    /// Seal what waited for a session.  False if nothing was ever sent on it: the peer does not know it yet.
    pub fn flush(&mut self, peer: &Arc<Peer>, now: f64) -> bool {
        let mut queue = crate::datapath::lock(&peer.queue);
        let Some(keys) = peer.usable(now) else {
            return false;
        };
        self.drain(&mut queue, &keys, now);
        // Under the lock: what comes next must not overtake.
        self.transmit();
        // Not whether packets waited: the thread of a queue may have sent them a moment ago.
        keys.counter.load(Ordering::Relaxed) > 0
    }

    fn drain(&mut self, queue: &mut MutexGuard<'_, Queue>, keys: &Arc<Keys>, now: f64) {
        while let Some(packet) = queue.packets.pop_front() {
            self.seal(keys, &Cut::Whole(&packet), now);
        }
        keys.peer.queued.store(false, Ordering::Release);
    }

    fn send(&mut self, peer: &Arc<Peer>, cut: &Cut<'_>, now: f64) {
        if !peer.queued.load(Ordering::Acquire)
            && let Some(keys) = peer.current.load().as_ref()
            && keys.usable(now)
        {
            self.seal(keys, cut, now);
            return;
        }
        let mut queue = crate::datapath::lock(&peer.queue);
        // Again, under the lock: a session may have come meanwhile.
        if let Some(keys) = peer.usable(now) {
            self.drain(&mut queue, &keys, now);
            // Under the lock: what the thread of another queue reads next must not overtake.
            self.transmit();
            drop(queue);
            self.seal(&keys, cut, now);
            return;
        }
        for index in 0..cut.count() {
            let mut packet = vec![0; cut.len(index)];
            cut.write(index, &mut packet);
            if !queue.push(packet) {
                self.tables.drops.add(Reason::OutQueueFull, 1);
            }
        }
        peer.queued.store(true, Ordering::Release);
        if !queue.asked {
            queue.asked = true;
            self.tables.upcalls.put(Upcall::NoSession(peer.id));
        }
    }

    /// The loop that costs.
    fn seal(&mut self, keys: &Arc<Keys>, cut: &Cut<'_>, now: f64) {
        let path = keys.peer.path.load();
        let masquerade = keys.peer.masquerade.load();
        let head = path.head();
        let front = head.map_or(0, |head| head.len());
        let count = cut.count();
        let first = keys.counter.fetch_add(count as u64, Ordering::Relaxed);
        let (mut packets, mut total) = (0, 0);
        for index in 0..count {
            let length = cut.len(index);
            let full = padded(length, self.mtu);
            let size = front + HEADER + full + TAG;
            if self.pos + size > self.buffer.len() {
                self.account(keys, &path, packets, total, now);
                (packets, total) = (0, 0);
                self.transmit();
            }
            let datagram = &mut self.buffer[self.pos..self.pos + size];
            if let Some(head) = head {
                datagram[..front].copy_from_slice(&head);
            }
            let message = &mut datagram[front..];
            cut.write(index, &mut message[HEADER..HEADER + length]);
            message[HEADER + length..HEADER + full].fill(0);
            if self.tables.tap.on() && length > 0 {
                let (tap, drops) = (&self.tables.tap, &self.tables.drops);
                let packet = &message[HEADER..HEADER + length];
                tap.put(drops, Direction::Out, None, Some(keys.peer.id), packet);
            }
            if let Some(masquerade) = masquerade.as_ref() {
                masquerade.leaving(&mut message[HEADER..HEADER + length]);
            }
            keys.seal(&mut self.cipher, message, first + index as u64);
            self.runs.push(keys, &path, self.pos, size);
            self.pos += size;
            packets += u64::from(length > 0);
            total += length as u64;
        }
        self.account(keys, &path, packets, total, now);
    }

    fn account(&self, keys: &Keys, path: &Path, packets: u64, size: u64, now: f64) {
        if packets > 0 && (path.relay || path.udp.is_some()) {
            let kind = path.udp.map_or(Kind::DERP, |(way, _)| way.kind());
            self.tables.traffic.outbound.add(kind, packets, size);
        }
        let due = keys.peer.note_sent(now, packets, size);
        if due != 0 {
            self.tables.upcalls.put(Upcall::Woke(keys.peer.id, due));
        }
    }

    /// Send what is sealed.
    pub fn transmit(&mut self) {
        if self.pos == 0 {
            return;
        }
        let data = &self.buffer[..self.pos];
        self.runs.send(&self.tables, data, self.stop.as_deref());
        self.pos = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::datapath::tables::session::Session;

    const SESSION: Session = Session {
        local: 7,
        remote: 8,
        send_key: [1; 32],
        receive_key: [2; 32],
        created: 0.0,
        initiator: true,
    };
    // GRE from 10.0.0.1 to 10.0.0.2.
    const PACKET: [u8; 20] = [
        0x45, 0, 0, 20, 0, 0, 0, 0, 64, 47, 0x66, 0xb9, 10, 0, 0, 1, 10, 0, 0, 2,
    ];

    /// A peer of whom packets wait: those of a queue's thread; and what the slow path sends with.
    fn waiting(packets: usize) -> (Arc<Tables>, Arc<Peer>, Outbound, Outbound) {
        let tables = Arc::new(Tables::new(Clock::manual(), 100).expect("an eventfd"));
        let everything = crate::datapath::tables::prefixes::Prefix {
            version: 4,
            bits: 0,
            address: 0,
        };
        tables.set_peers(&[(1, vec![everything].into())]);
        let peer = tables.peer(1).expect("just set");
        let mut thread = Outbound::new(Arc::clone(&tables), None);
        for _ in 0..packets {
            thread.read(&mut PACKET.clone(), false, 1.0);
        }
        assert_eq!(crate::datapath::lock(&peer.queue).packets.len(), packets);
        let slow = Outbound::new(Arc::clone(&tables), None);
        (tables, peer, thread, slow)
    }

    fn sealed(peer: &Peer) -> u64 {
        peer.activity().6
    }

    #[test]
    fn a_session_that_a_queues_thread_used_first_needs_no_empty_packet() {
        let (tables, peer, mut thread, mut slow) = waiting(2);
        tables.add_session(&peer, &SESSION);
        // The thread comes between: it finds the session and what waits before the slow path flushes.
        thread.read(&mut PACKET.clone(), false, 1.0);
        assert_eq!(sealed(&peer), 3);
        assert!(slow.flush(&peer, 1.0));
        assert_eq!(sealed(&peer), 3);
    }

    #[test]
    fn a_session_that_nothing_waited_for_needs_one() {
        let (tables, peer, _, mut slow) = waiting(0);
        assert!(!slow.flush(&peer, 1.0));
        tables.add_session(&peer, &SESSION);
        assert!(!slow.flush(&peer, 1.0));
        slow.keepalive(&peer, 1.0);
        assert_eq!(sealed(&peer), 1);
        let (tables, peer, _, mut slow) = waiting(5);
        tables.add_session(&peer, &SESSION);
        assert!(slow.flush(&peer, 1.0));
        assert_eq!(sealed(&peer), 5);
    }

    #[test]
    fn padding_stays_within_the_mtu() {
        assert_eq!(padded(0, 1280), 0);
        assert_eq!(padded(1, 1280), 16);
        assert_eq!(padded(1279, 1280), 1280);
        assert_eq!(padded(1278, 1279), 1279);
        assert_eq!(padded(2561, 1280), 2576);
        assert_eq!(padded(17, 0), 32);
    }
}
