//! Datagrams that come in fragments, put together within bounds (RFC 791, RFC 8200 §4.5).
//!
//! Fragments that overlap lose the whole datagram (RFC 5722; as Linux does for IPv4 too).  Whoever
//! holds back a last fragment costs memory: too many unfinished datagrams push the oldest out, and
//! one sender has a share of the room only.

use std::collections::HashMap;
use std::net::IpAddr;

use smoltcp::time::{Duration, Instant};

use super::ip::Datagram;

const PATIENCE: Duration = Duration::from_secs(30); // as Linux (net.ipv4.ipfrag_time)
const UNFINISHED: usize = 128; // datagrams
const UNFINISHED_EACH: usize = 16; // of one sender
const ROOM: usize = 4 << 20; // bytes of all
const LARGEST: usize = 65_535; // bytes of a body

type Key = (IpAddr, IpAddr, u8, u32);

struct Pieces {
    pieces: Vec<(usize, Vec<u8>)>, // by offset, without overlaps
    bytes: usize,
    total: Option<usize>,
    until: Instant,
    number: u64, // the smaller the older
}

/// A body that is complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// Sender.
    pub src: IpAddr,
    /// Receiver.
    pub dst: IpAddr,
    /// Of the body.
    pub protocol: u8,
    /// Behind the headers.
    pub body: Vec<u8>,
}

/// What waits for more.
#[derive(Default)]
pub struct Reassembly {
    unfinished: HashMap<Key, Pieces>,
    bytes: usize,
    next: u64,
    /// Datagrams given up.
    pub dropped: u64,
}

impl Reassembly {
    /// A fragment; the datagram if it was the last one missing.
    pub fn add(&mut self, datagram: &Datagram<'_>, now: Instant) -> Option<Whole> {
        let part = datagram.part?;
        let key = (datagram.src, datagram.dst, datagram.protocol, part.id);
        let end = part.offset + datagram.body.len();
        // Only the last one may have any length: the next must begin at a multiple of eight.
        let aligned = !part.more || datagram.body.len().is_multiple_of(8);
        if datagram.body.is_empty() || end > LARGEST || !aligned {
            self.lose(&key);
            return None;
        }
        self.expire(now);
        if !self.unfinished.contains_key(&key) {
            self.make_room(datagram.src);
            let pieces = Pieces {
                pieces: Vec::new(),
                bytes: 0,
                total: None,
                until: now + PATIENCE,
                number: self.next,
            };
            self.next += 1;
            self.unfinished.insert(key, pieces);
        }
        let pieces = self.unfinished.get_mut(&key)?;
        match pieces.insert(part.offset, datagram.body, part.more) {
            Some(added) => self.bytes += added,
            None => {
                self.lose(&key);
                return None;
            }
        }
        if pieces.total != Some(pieces.bytes) {
            return None;
        }
        let pieces = self.unfinished.remove(&key)?;
        self.bytes -= pieces.bytes;
        Some(Whole {
            src: datagram.src,
            dst: datagram.dst,
            protocol: datagram.protocol,
            body: pieces
                .pieces
                .into_iter()
                .flat_map(|piece| piece.1)
                .collect(),
        })
    }

    fn expire(&mut self, now: Instant) {
        let late = |(key, pieces): (&Key, &Pieces)| (pieces.until <= now).then_some(*key);
        let gone: Vec<Key> = self.unfinished.iter().filter_map(late).collect();
        for key in gone {
            self.lose(&key);
        }
    }

    fn make_room(&mut self, src: IpAddr) {
        let oldest = |all: &HashMap<Key, Pieces>, of: Option<IpAddr>| {
            all.iter()
                .filter(|(key, _)| of.is_none_or(|src| key.0 == src))
                .min_by_key(|(_, pieces)| pieces.number)
                .map(|(key, _)| *key)
        };
        let own = self.unfinished.keys().filter(|key| key.0 == src).count();
        if own >= UNFINISHED_EACH
            && let Some(key) = oldest(&self.unfinished, Some(src))
        {
            self.lose(&key);
        }
        while self.unfinished.len() >= UNFINISHED || self.bytes > ROOM - LARGEST {
            let Some(key) = oldest(&self.unfinished, None) else {
                return;
            };
            self.lose(&key);
        }
    }

    fn lose(&mut self, key: &Key) {
        self.dropped += 1;
        if let Some(pieces) = self.unfinished.remove(key) {
            self.bytes -= pieces.bytes;
        }
    }
}

impl Pieces {
    /// Keep a piece; how many bytes that added, `None` if it contradicts another.
    fn insert(&mut self, offset: usize, body: &[u8], more: bool) -> Option<usize> {
        let end = offset + body.len();
        let at = self.pieces.partition_point(|(start, _)| *start < offset);
        if let Some((start, piece)) = self.pieces.get(at)
            && *start == offset
            && piece == body
        {
            return Some(0); // the same again: the network may do that
        }
        let before = at.checked_sub(1).map(|n| &self.pieces[n]);
        let overlaps = before.is_some_and(|(start, piece)| start + piece.len() > offset)
            || self.pieces.get(at).is_some_and(|(start, _)| *start < end);
        let last = self.pieces.last();
        let beyond = match (self.total, more) {
            (Some(total), true) => end >= total,
            (Some(_), false) => true,
            (None, true) => false,
            (None, false) => last.is_some_and(|(start, piece)| start + piece.len() > offset),
        };
        if overlaps || beyond {
            return None;
        }
        if !more {
            self.total = Some(end);
        }
        self.pieces.insert(at, (offset, body.to_vec()));
        self.bytes += body.len();
        Some(body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ip::{Part, UDP, packets, parse, sum_header};
    use super::*;

    const NOW: Instant = Instant::ZERO;

    fn fragments(size: usize, id: u32) -> (Vec<u8>, Vec<Vec<u8>>) {
        let body: Vec<u8> = (0..size).map(|n| ((n * 31) >> 3) as u8).collect();
        let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let all = packets(src, dst, UDP, &body, 1280, id);
        (body, all)
    }

    fn give(reassembly: &mut Reassembly, packet: &[u8], now: Instant) -> Option<Vec<u8>> {
        let whole = reassembly.add(&parse(packet).unwrap().1, now)?;
        assert_eq!(whole.protocol, UDP);
        Some(whole.body)
    }

    #[test]
    fn any_order_and_twice_the_same_gives_the_datagram() {
        for turn in 0..6 {
            let mut reassembly = Reassembly::default();
            let (body, mut all) = fragments(5000, 9);
            all.rotate_left(turn % 4);
            if turn > 3 {
                all.reverse();
            }
            all.insert(1, all[0].clone());
            let mut got = None;
            for packet in &all {
                got = got.or(give(&mut reassembly, packet, NOW));
            }
            assert!(got == Some(body));
            assert_eq!((reassembly.bytes, reassembly.dropped), (0, 0));
        }
    }

    #[test]
    fn overlapping_fragments_lose_the_datagram() {
        let mut reassembly = Reassembly::default();
        let (_, all) = fragments(3000, 9);
        assert_eq!(give(&mut reassembly, &all[0], NOW), None);
        let (_, good) = parse(&all[1]).unwrap();
        let evil = Datagram {
            part: Some(Part {
                offset: 8,
                ..good.part.unwrap()
            }),
            ..good
        };
        assert_eq!(reassembly.add(&evil, NOW), None);
        assert_eq!((reassembly.unfinished.len(), reassembly.bytes), (0, 0));
        assert_eq!(reassembly.dropped, 1);
    }

    #[test]
    fn the_unfinished_are_forgotten_after_a_while() {
        let mut reassembly = Reassembly::default();
        let (_, all) = fragments(3000, 9);
        assert_eq!(give(&mut reassembly, &all[0], NOW), None);
        assert_eq!(give(&mut reassembly, &all[1], NOW + PATIENCE), None);
        assert_eq!(give(&mut reassembly, &all[2], NOW + PATIENCE), None);
        assert_eq!(reassembly.dropped, 1);
    }

    #[test]
    fn a_flood_of_first_fragments_is_bounded_and_leaves_others_their_room() {
        let mut reassembly = Reassembly::default();
        let (body, mut honest) = fragments(3000, 9);
        for packet in &mut honest {
            packet[15] = 77; // another sender
            sum_header(&mut packet[..20]);
        }
        assert_eq!(give(&mut reassembly, &honest[0], NOW), None);
        for id in 0..5000 {
            let (_, all) = fragments(3000, id);
            assert_eq!(give(&mut reassembly, &all[0], NOW), None);
        }
        assert_eq!(reassembly.unfinished.len(), 1 + UNFINISHED_EACH);
        assert!(reassembly.bytes <= 17 * 1280);
        assert_eq!(give(&mut reassembly, &honest[2], NOW), None);
        assert!(give(&mut reassembly, &honest[1], NOW) == Some(body));
    }

    #[test]
    fn hostile_fragments_never_break_the_bounds() {
        let mut reassembly = Reassembly::default();
        let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut state = 1u64;
        let mut noise = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below) as usize
        };
        let body = vec![7; 65_535];
        for _ in 0..50_000 {
            let datagram = Datagram {
                src,
                dst,
                protocol: UDP,
                body: &body[..[0, 8, 16, 1232, noise(3000)][noise(5)]],
                part: Some(Part {
                    id: noise(40) as u32,
                    offset: noise(9) * [8, 1232][noise(2)],
                    more: noise(3) > 0,
                }),
            };
            if let Some(whole) = reassembly.add(&datagram, NOW) {
                assert!(whole.body.len() <= LARGEST);
            }
            let held: usize = reassembly.unfinished.values().map(|p| p.bytes).sum();
            assert_eq!(held, reassembly.bytes);
            assert!(held <= ROOM && reassembly.unfinished.len() <= UNFINISHED_EACH);
        }
    }
}
