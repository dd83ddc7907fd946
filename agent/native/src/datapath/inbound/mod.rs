//! From datagrams to packets for the TUN device.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::datapath::crypto::aead::Cipher;
use crate::datapath::crypto::aead::TAG;
use crate::datapath::crypto::replay::REJECT_AFTER_MESSAGES;
use crate::datapath::filter::Matcher;
use crate::datapath::filter::limiter::Limiter;
use crate::datapath::filter::reject::Replies;
use crate::datapath::offload::coalesce::Coalescer;
use crate::datapath::offload::group::Writer;
use crate::datapath::report::drops::Reason;
use crate::datapath::report::tap::Direction;
use crate::datapath::report::traffic::Kind;
use crate::datapath::report::upcalls::Upcall;
use crate::datapath::tables::Tables;
use crate::datapath::tables::peer::Peer;
use crate::datapath::tables::session::{HEADER, Keys};
use crate::datapath::tun::Joined;
use crate::datapath::tun::service::is_service;
use crate::datapath::tun::sites::Sorter;
use crate::datapath::wire::clamp::clamp;
use crate::datapath::wire::classify::{Class, classify_untrusted};
use crate::datapath::wire::geneve::{self, Inner, Way};
use crate::datapath::wire::intact::is_intact;
use crate::datapath::wire::packet::{TSMP, ip_length, parse_untrusted};
use crate::sys::socket::{Incoming, RECEIVE_MAX};

const OVERHEAD: usize = HEADER + TAG;
const TRANSPORT: [u8; 4] = [4, 0, 0, 0];

/// Of the session in hand: authenticated messages, data packets, bytes of IP.
#[derive(Default)]
struct Tally {
    messages: u64,
    packets: u64,
    bytes: u64,
    /// Where the last one came from, unless through a relay.
    direct: Option<SocketAddr>,
    kind: Kind,
}

/// Opens in place, checks and collects; the caller lets it [`Inbound::write`] after each batch.
pub struct Inbound {
    tables: Arc<Tables>,
    cipher: Cipher,
    matcher: Matcher,
    coalescer: Coalescer,
    limiter: Limiter,
    vnet_hdr: bool,
    /// Answers to what was refused.
    pub replies: Replies,
    /// Of the TUN device; 0: any.
    pub mtu: usize,
    /// Peers whose session was just proven, for the caller to flush.
    pub confirmed: Vec<Arc<Peer>>,
}

impl Inbound {
    /// For a TUN device with or without offload.
    pub fn new(tables: Arc<Tables>, vnet_hdr: bool, joined: Joined) -> Self {
        Self {
            matcher: Matcher::new(tables.policy.load_full()),
            cipher: tables.suite.cipher(),
            tables,
            coalescer: Coalescer::new(vnet_hdr, joined),
            limiter: Limiter::default(),
            vnet_hdr,
            replies: Replies::default(),
            mtu: 0,
            confirmed: Vec::new(),
        }
    }

    /// A new batch begins: look at the tables again.
    pub fn begin(&mut self) {
        self.matcher.begin(self.tables.policy.load_full());
    }

    /// Hand what was collected to the TUN device, or to the stack of the sites.
    pub fn write(&mut self, data: &mut [u8], writer: &mut impl Writer) {
        let sites = self.tables.sites.load();
        let mut sorter = Sorter {
            sites: sites.as_deref(),
            host: writer,
            vnet_hdr: self.vnet_hdr,
        };
        self.coalescer.take(data, &mut sorter);
    }

    /// The messages of one read, as [`Inbound::receive`].
    pub fn receive_all(&mut self, data: &mut [u8], messages: &[Incoming], now: f64) {
        if messages.len() < 2 || !self.tables.crowded() {
            for message in messages {
                self.receive(data, message, now);
            }
            return;
        }
        for some in messages.chunks(RECEIVE_MAX) {
            let known = self.look_ahead(data, some);
            for (keys, message) in known.into_iter().zip(some) {
                self.receive_with(keys, data, message, now);
            }
        }
    }

    /// The sessions of messages, as the first datagram of each says.
    ///
    /// Messages of many peers touch much memory, in a chain: index → session → peer → path and sources.
    /// Each link is asked for of all messages before the next.
    fn look_ahead(&self, data: &[u8], messages: &[Incoming]) -> [Option<Arc<Keys>>; RECEIVE_MAX] {
        let mut firsts = [None; RECEIVE_MAX];
        for (first, message) in firsts.iter_mut().zip(messages) {
            let end = message.start + message.size.min(message.len);
            let found = receiver(&data[message.start..end], message);
            *first = found.map(|(front, local)| (local, counter(&data[message.start + front..])));
        }
        let known = self.tables.sessions(firsts.map(|first| Some(first?.0)));
        for (keys, first) in known.iter().zip(firsts) {
            if let (Some(keys), Some((_, counter))) = (keys, first) {
                keys.peer.prefetch();
                crate::datapath::lock(&keys.replay).prefetch(counter);
            }
        }
        for keys in known.iter().flatten() {
            keys.peer.prefetch_to_take();
        }
        known
    }

    /// One message of one source; it stays in `data` until [`Inbound::write`].
    pub fn receive(&mut self, data: &mut [u8], message: &Incoming, now: f64) {
        self.receive_with(None, data, message, now);
    }

    fn receive_with(
        &mut self,
        mut known: Option<Arc<Keys>>,
        data: &mut [u8],
        message: &Incoming,
        now: f64,
    ) {
        let mut tally = Tally::default();
        let end = message.start + message.len;
        let mut at = message.start;
        while at < end {
            let stop = (at + message.size).min(end);
            let start = at;
            at = stop;
            let Some((front, local)) = receiver(&data[start..stop], message) else {
                self.other(&data[start..stop], message, now);
                continue;
            };
            if known.as_ref().is_none_or(|keys| keys.local != local) {
                if let Some(keys) = known.take() {
                    self.account(&keys.peer, &tally, now);
                }
                tally = Tally::default();
                known = self.tables.session(local);
            }
            tally.direct = message.src.filter(|_| front == 0);
            tally.kind = message
                .src
                .map_or(Kind::DERP, |src| Kind::udp(src.is_ipv6(), front > 0));
            match &known {
                Some(keys) => self.open(keys, data, start + front, stop, now, &mut tally),
                None => self.other(&data[start..stop], message, now),
            }
        }
        if let Some(keys) = known {
            self.account(&keys.peer, &tally, now);
        }
    }

    fn open(
        &mut self,
        keys: &Arc<Keys>,
        data: &mut [u8],
        at: usize,
        stop: usize,
        now: f64,
        tally: &mut Tally,
    ) {
        let drops = &self.tables.drops;
        let counter = counter(&data[at..]);
        if now >= keys.expires || counter >= REJECT_AFTER_MESSAGES {
            drops.add(Reason::InExpired, 1);
            return;
        }
        if !keys.open(&mut self.cipher, &mut data[at..stop], counter) {
            drops.add(Reason::InForged, 1);
            return;
        }
        if !crate::datapath::lock(&keys.replay).check_and_set(counter) {
            drops.add(Reason::InReplay, 1);
            return;
        }
        if keys.unconfirmed.load(std::sync::atomic::Ordering::Relaxed) && self.tables.confirm(keys)
        {
            self.confirmed.push(Arc::clone(&keys.peer));
        }
        tally.messages += 1;
        let (start, plain) = (at + HEADER, stop - at - OVERHEAD);
        if plain == 0 {
            return;
        }
        tally.packets += 1;
        let owner = Arc::as_ptr(&keys.peer) as usize;
        let taken = match self.coalescer.extend(owner, data, start, plain) {
            Some(length) => Ok(length),
            None => self.judge(&keys.peer, data, start, plain),
        };
        match taken {
            Ok(length) => tally.bytes += length as u64,
            Err(reason) => {
                if reason == Reason::InChecksum {
                    // Carried all the same: whoever sums a whole group at once learns it too late.
                    tally.bytes += ip_length(&data[start..start + plain]) as u64;
                }
                self.tables.drops.add(reason, 1);
            }
        }
        if self.tables.tap.on() {
            let (tap, drops) = (&self.tables.tap, &self.tables.drops);
            let (peer, packet) = (Some(keys.peer.id), &data[start..start + plain]);
            tap.put(drops, Direction::In, taken.err(), peer, packet);
        }
    }

    /// The long way for one packet; its bytes of IP, 0 if it is for the daemon.
    fn judge(
        &mut self,
        peer: &Arc<Peer>,
        data: &mut [u8],
        start: usize,
        plain: usize,
    ) -> Result<usize, Reason> {
        let tables = &self.tables;
        let mut packet = parse_untrusted(&data[start..start + plain]).ok_or(Reason::InMalformed)?;
        if !peer.allowed.load().contains(packet.version, packet.src) {
            return Err(Reason::InSource);
        }
        if is_service(packet.version, packet.dst) || is_service(packet.version, packet.src) {
            return Err(Reason::InService); // services of ours are not for peers, nor theirs for us
        }
        if !is_intact(&data[start..start + plain], &packet) {
            return Err(Reason::InChecksum);
        }
        if let Some(masquerade) = peer.masquerade.load().as_ref() {
            masquerade.entering(&mut data[start..start + plain], &mut packet);
        }
        if packet.proto == TSMP {
            let bytes = data[start..start + packet.length].to_vec();
            self.replies.tsmp(tables, &packet, &bytes);
            tables.put_lossy(Upcall::ToAgent(peer.id, bytes), 1);
            return Ok(0);
        }
        if let Err(reason) = self.matcher.inbound(&packet, &tables.flows) {
            let shields_up = self.matcher.shields_up();
            self.replies.refused(tables, peer, &packet, shields_up);
            return Err(reason);
        }
        clamp(&mut data[start..], &packet, self.mtu, false);
        let owner = Arc::as_ptr(peer) as usize;
        self.coalescer.add(owner, &packet, data, start, plain);
        Ok(packet.length)
    }

    fn account(&mut self, peer: &Peer, tally: &Tally, now: f64) {
        if tally.messages == 0 {
            return;
        }
        if tally.packets > 0 {
            let traffic = &self.tables.traffic.inbound;
            traffic.add(tally.kind, tally.packets, tally.bytes);
        }
        let due = peer.note_received(now, tally.packets, tally.bytes);
        if due != 0 {
            self.tables.upcalls.put(Upcall::Woke(peer.id, due));
        }
        let Some(src) = tally.direct else { return };
        self.limiter.note_good(src);
        let path = peer.path.load();
        let way = Way { addr: src, vni: 0 };
        if path.udp.is_some_and(|(udp, _)| udp == way) {
            return;
        }
        let mut reported = crate::datapath::lock(&path.reported);
        if *reported != Some(src) {
            *reported = Some(src);
            drop(reported);
            self.tables.put_lossy(Upcall::NewSource(peer.id, src), 1);
        }
    }

    /// Not a transport message of a session we have.
    fn other(&mut self, data: &[u8], message: &Incoming, now: f64) {
        let mac1 = self.tables.mac1.load();
        let via = message.src.and_then(|_| geneve::parse_untrusted(data));
        let (vni, data) = match via {
            Some((vni, _)) => (vni, &data[geneve::LEN..]),
            None => (0, data),
        };
        let class = classify_untrusted(data, mac1.as_deref());
        let tables = &self.tables;
        let class = match (via, class) {
            (Some((_, Inner::Disco)), Class::Disco) => Class::Disco,
            (Some((_, Inner::WireGuard)), Class::Handshake | Class::Transport) => class,
            (Some(_), _) => Class::Unknown,
            (None, _) => class,
        };
        let (class, src) = match (class, message.src) {
            (Class::Transport, _) => return tables.drops.add(Reason::InNoSession, 1),
            (Class::Unknown, _) | (_, None) => return tables.drops.add(Reason::InUnknown, 1),
            (class, Some(src)) => (class, src),
        };
        if self.limiter.allows(src, now) {
            let (way, data) = (Way { addr: src, vni }, data.to_vec());
            let upcall = match class {
                Class::Stun => Upcall::Stun(src, data),
                Class::Disco => Upcall::Disco(way, data),
                _ => Upcall::Handshake(way, data),
            };
            tables.put_lossy(upcall, 1);
        } else {
            tables.drops.add(Reason::UpcallsFull, 1);
        }
    }
}

/// Where a transport message that is long enough to be one begins, and the index in it.
fn receiver(data: &[u8], message: &Incoming) -> Option<(usize, u32)> {
    if data.len() < OVERHEAD {
        return None;
    }
    if data[..4] == TRANSPORT {
        return Some((0, index(data)));
    }
    match geneve::parse_untrusted(data) {
        Some((_, Inner::WireGuard)) if message.src.is_some() => {
            let inner = &data[geneve::LEN..];
            let sealed = inner.len() >= OVERHEAD && inner[..4] == TRANSPORT;
            sealed.then(|| (geneve::LEN, index(inner)))
        }
        _ => None,
    }
}

fn counter(data: &[u8]) -> u64 {
    let mut counter = [0; 8];
    counter.copy_from_slice(&data[8..16]);
    u64::from_le_bytes(counter)
}

fn index(data: &[u8]) -> u32 {
    u32::from_le_bytes([data[4], data[5], data[6], data[7]])
}

#[cfg(test)]
mod tests;
