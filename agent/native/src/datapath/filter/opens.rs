//! Connections that the host tries to open: a refusal is believed only for one of these.
//!
//! Source: tailscale wgengine/pendopen.go.

use std::collections::{HashMap, VecDeque};

use crate::datapath::filter::flows::Flow;
use crate::datapath::wire::packet::{ACK, Parsed, SYN, TCP};
use crate::hash::Seeded;

const QUOTE: usize = 128; // bytes of the packet that an error is about
const MAX_OPENS: usize = 1024;
const OPEN_FOR: f64 = 5.0; // seconds in which a refusal counts

/// True for the first segment of a connection.
pub fn is_opening(packet: &Parsed) -> bool {
    packet.proto == TCP && packet.flags & (SYN | ACK) == SYN
}

struct Open {
    at: f64,
    quote: Vec<u8>,
}

/// TCP connections the host tried to open lately; the oldest of more than 1024 is forgotten.
#[derive(Default)]
pub struct Opens {
    flows: HashMap<Flow, Open, Seeded>,
    order: VecDeque<Flow>,
}

impl Opens {
    /// A SYN left.
    pub fn note(&mut self, parsed: &Parsed, packet: &[u8], now: f64) {
        let flow = Flow::of(parsed);
        let quote = quote(packet).to_vec();
        if self.flows.insert(flow, Open { at: now, quote }).is_some() {
            return;
        }
        self.order.push_back(flow);
        if self.order.len() > MAX_OPENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.flows.remove(&oldest);
        }
    }

    /// The beginning of the SYN that a refusal is about; each is answered once.
    pub fn take(&mut self, flow: &Flow, now: f64) -> Option<Vec<u8>> {
        let open = self.flows.get_mut(flow)?;
        let quote = std::mem::take(&mut open.quote);
        (!quote.is_empty() && now - open.at <= OPEN_FOR).then_some(quote)
    }
}

/// What an error about `packet` repeats of it.
pub fn quote(packet: &[u8]) -> &[u8] {
    &packet[..packet.len().min(QUOTE)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::wire::packet::parse_untrusted;

    fn syn(port: u16) -> (Parsed, Vec<u8>) {
        let mut packet = vec![0; 40];
        packet[..4].copy_from_slice(&[0x45, 0, 0, 40]);
        (packet[8], packet[9]) = (64, TCP);
        packet[12..20].copy_from_slice(&[100, 64, 0, 1, 100, 64, 0, 2]);
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        packet[32..34].copy_from_slice(&[0x50, SYN]);
        (parse_untrusted(&packet).expect("whole"), packet)
    }

    #[test]
    fn the_oldest_of_more_than_1024_opens_is_forgotten() {
        let mut opens = Opens::default();
        for port in 0..=MAX_OPENS as u16 {
            let (parsed, packet) = syn(port);
            opens.note(&parsed, &packet, 1.0);
            opens.note(&parsed, &packet, 2.0);
        }
        assert_eq!(
            (opens.flows.len(), opens.order.len()),
            (MAX_OPENS, MAX_OPENS)
        );
        assert!(opens.take(&Flow::of(&syn(0).0), 2.0).is_none());
        assert!(opens.take(&Flow::of(&syn(1).0), 8.0).is_none(), "too late");
        assert_eq!(opens.take(&Flow::of(&syn(2).0), 7.0), Some(syn(2).1));
        assert!(opens.take(&Flow::of(&syn(2).0), 7.0).is_none(), "answered");
    }
}
