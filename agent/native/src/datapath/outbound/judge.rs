//! Which packets of the host leave, and to whom.

use std::ops::Range;
use std::sync::Arc;

use crate::datapath::filter;
use crate::datapath::filter::flows::Flow;
use crate::datapath::filter::opens::is_opening;
use crate::datapath::offload::split::split;
use crate::datapath::outbound::Outbound;
use crate::datapath::report::drops::Reason;
use crate::datapath::report::tap::Direction;
use crate::datapath::tables::peer::Peer;
use crate::datapath::tables::prefixes::Prefixes;
use crate::datapath::tun::service::{hand_over, is_service};
use crate::datapath::wire::clamp::clamp;
use crate::datapath::wire::intact::{header_holds, is_intact};
use crate::datapath::wire::packet::{Parsed, SYN, TCP, TSMP, UDP, parse_untrusted};
use crate::datapath::wire::vnet;

/// Packets of one [`Outbound::read_all`].
pub const TOGETHER: usize = 16;

/// The flow of the packet before, and its peer: most packets follow one of their own.
type Last<'a> = Option<(Flow, &'a Arc<Peer>)>;

impl Outbound {
    /// One read of the TUN device.
    pub fn read(&mut self, data: &mut [u8], vnet_hdr: bool, now: f64) {
        let whole = 0..data.len();
        self.read_all(data, &[whole], vnet_hdr, now);
    }

    /// At most [`TOGETHER`] reads of the TUN device, in their order, each somewhere in `data`.
    ///
    /// Those of many peers touch much memory, in a chain: destination → peer → session and path.  Each
    /// link is asked for of all packets before the next.
    pub fn read_all(&mut self, data: &mut [u8], reads: &[Range<usize>], vnet_hdr: bool, now: f64) {
        let start = if vnet_hdr { vnet::LEN } else { 0 };
        let hint = |read: &[u8]| {
            if vnet_hdr {
                vnet::Header::parse(read)
            } else {
                Some(vnet::Header::default())
            }
        };
        let routes = self.tables.routes.load_full();
        if !Arc::ptr_eq(&routes, &self.routes) {
            self.routes = Arc::clone(&routes);
            self.last = None;
        }
        let kept = self.last.take();
        let mut last: Last<'_> = kept.as_ref().map(|(flow, peer)| (*flow, peer));
        let mut peers = [None; TOGETHER];
        for (peer, read) in peers.iter_mut().zip(reads) {
            let read = &mut data[read.clone()];
            let hint = hint(read);
            let packet = read.get_mut(start..).unwrap_or_default();
            match self.judge(&routes, &mut last, packet, hint.as_ref(), now) {
                Ok(judged) => {
                    judged.prefetch();
                    *peer = Some(judged);
                }
                Err(reason) => self.stays(reason, read, vnet_hdr),
            }
        }
        for peer in peers.iter().flatten() {
            peer.prefetch_to_send();
        }
        for (peer, read) in peers.iter().zip(reads) {
            let Some(peer) = peer else { continue };
            let read = &mut data[read.clone()];
            match hint(read).and_then(|hint| split(&hint, &mut read[start..])) {
                Some(cut) => self.send(peer, &cut, now),
                None => self.tables.drops.add(Reason::OutMalformed, 1),
            }
        }
        self.last = last.map(|(flow, peer)| (flow, Arc::clone(peer)));
    }

    /// The peer a packet goes to, or why it does not leave.
    fn judge<'a>(
        &mut self,
        routes: &'a Prefixes<Arc<Peer>>,
        last: &mut Last<'a>,
        packet: &mut [u8],
        hint: Option<&vnet::Header>,
        now: f64,
    ) -> Result<&'a Arc<Peer>, Reason> {
        let parsed = parse_untrusted(packet).ok_or(Reason::OutMalformed)?;
        let (begun, settled) = hint.map_or((false, false), |hint| {
            (hint.flags & vnet::NEEDS_CSUM != 0, hint.settles())
        });
        // Services look for themselves.
        let intact = is_service(parsed.version, parsed.dst)
            || if settled {
                header_holds(packet, &parsed)
            } else {
                is_intact(packet, &parsed)
            };
        if !intact {
            return Err(Reason::OutChecksum);
        }
        let judged = self.route(routes, last, &parsed);
        match judged {
            Ok(_) if parsed.proto == TCP && parsed.flags & SYN != 0 => {
                clamp(packet, &parsed, self.mtu, begun);
                if is_opening(&parsed) {
                    crate::datapath::lock(&self.tables.opens).note(&parsed, packet, now);
                }
            }
            Err(Reason::OutNoPeer) => self.replies.nobody(&self.tables, &parsed, packet),
            _ => {}
        }
        judged
    }

    /// No peer gets it: perhaps it is for a service of ours.
    fn stays(&self, reason: Reason, read: &[u8], vnet_hdr: bool) {
        let tables = &self.tables;
        let taken = reason == Reason::OutService
            && hand_over(tables.service.load().as_ref(), read, vnet_hdr);
        if !taken {
            tables.drops.add(reason, 1);
        }
        if tables.tap.on() {
            let packet = read.get(if vnet_hdr { vnet::LEN } else { 0 }..);
            let dropped = (!taken).then_some(reason);
            let packet = packet.unwrap_or_default();
            tables
                .tap
                .put(&tables.drops, Direction::Out, dropped, None, packet);
        }
    }

    fn route<'a>(
        &self,
        routes: &'a Prefixes<Arc<Peer>>,
        last: &mut Last<'a>,
        parsed: &Parsed,
    ) -> Result<&'a Arc<Peer>, Reason> {
        let flow = Flow::of(parsed);
        if let Some((known, peer)) = last
            && *known == flow
        {
            return Ok(peer);
        }
        *last = None;
        if is_service(parsed.version, parsed.dst) {
            return Err(Reason::OutService);
        }
        if parsed.proto == TSMP {
            return Err(Reason::OutTsmp); // it is for daemons to speak
        }
        if !filter::outbound(parsed, &self.tables.flows) {
            return Err(Reason::OutFilter);
        }
        let peer = routes.lookup(parsed.version, parsed.dst);
        let peer = peer.ok_or(Reason::OutNoPeer)?;
        if matches!(parsed.proto, TCP | UDP) {
            *last = Some((flow, peer));
        }
        Ok(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::datapath::report::drops::NAMES;
    use crate::datapath::tables::Tables;
    use crate::datapath::tables::prefixes::Prefix;
    use crate::datapath::wire::checksum::{complement, word_sum};

    /// GRE from 10.0.0.1 to 10.0.0.`to`, with a number as its identification.
    fn packet(to: u8, number: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 20, 0, number, 0, 0, 64, 47, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, to]);
        let sum = complement(word_sum(&packet)).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        packet
    }

    #[test]
    fn packets_read_together_wait_in_their_order_each_for_its_own_peer() {
        let tables = Arc::new(Tables::new(Clock::manual(), 100).expect("an eventfd"));
        let entries: Vec<_> = (2..5)
            .map(|to| {
                let address = Prefix {
                    version: 4,
                    bits: 32,
                    address: 0x0A00_0000 + u128::from(to),
                };
                (to, vec![address].into())
            })
            .collect();
        tables.set_peers(&entries);
        let mut outbound = Outbound::new(Arc::clone(&tables), None);
        let (mut data, mut reads) = (Vec::new(), Vec::new());
        for (number, to) in [2, 3, 2, 9, 4, 2, 3].into_iter().enumerate() {
            let packet = packet(to, number as u8);
            reads.push(data.len()..data.len() + packet.len());
            data.extend(packet);
        }
        outbound.read_all(&mut data, &reads, false, 1.0);
        let waiting = |to| {
            let peer = tables.peer(to).expect("just set");
            let queue = crate::datapath::lock(&peer.queue);
            queue
                .packets
                .iter()
                .map(|packet| packet[5])
                .collect::<Vec<_>>()
        };
        assert_eq!([2, 3, 4].map(waiting), [vec![0, 2, 5], vec![1, 6], vec![4]]);
        let lost = NAMES.iter().zip(tables.drops.snapshot());
        let lost: Vec<_> = lost.filter(|(_, count)| *count > 0).collect();
        assert_eq!(lost, [(&"out_no_peer", 1)]);
    }
}
