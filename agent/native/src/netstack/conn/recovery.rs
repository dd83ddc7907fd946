//! Several segments lost in one window: the second is repeated as soon as the first is acknowledged.
//!
//! smoltcp repeats one segment after three duplicate acknowledgements, and then waits for three
//! others, which come only if it may send something new; else its timer has to end.  Where a queue
//! overflows that is the rule.  RFC 6582 (NewReno) asks for more: an acknowledgement of less than
//! was under way when the loss was noticed names the next lost segment.  So such a one is given to
//! smoltcp as often as it wants to see it.
//!
//! ```text
//! sent      1 2 3 4 5 6        2 and 4 are lost
//! received  2 2 2 2 ─► 2 again ─► 4: below 7, so 4 was lost, too ─► 4 again ─► 7: recovered
//! ```
//!
//! Where three duplicates cannot come, because less than four segments are under way, those that can
//! are enough (RFC 5827, early retransmit).

use crate::netstack::ip;

const DUPLICATES: u8 = 3; // that make smoltcp repeat a segment (RFC 5681 §3.2)
const FIN_SYN: u8 = 3;
const ACK: u8 = 0x10;

/// What of a TCP segment matters here.
struct Segment {
    seq: u32,
    ack: Option<u32>,
    window: u16,
    payload: u32,
    length: u32, // of sequence space
}

impl Segment {
    /// `None` if it is not TCP, or damaged.
    fn of(packet: &[u8]) -> Option<Self> {
        let (_, datagram) = ip::parse(packet)?;
        let header: &[u8; 20] = datagram.body.first_chunk()?;
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let offset = usize::from(header[12] >> 4) * 4;
        let payload = datagram.body.len().checked_sub(offset)? as u32;
        Some(Self {
            seq: word(4),
            ack: (header[13] & ACK != 0).then(|| word(8)),
            window: u16::from_be_bytes([header[14], header[15]]),
            payload,
            length: payload + (header[13] & FIN_SYN).count_ones(),
        })
    }
}

/// Watches both directions of a connection.
#[derive(Default)]
pub struct Recovery {
    acked: Option<u32>,
    window: u16,
    duplicates: u8,
    sent: Option<u32>,  // the end of what was sent
    largest: u32,       // payload sent in one segment
    until: Option<u32>, // what was sent when a loss was noticed
    asked: bool,        // the next segment that is repeated is the one that we asked for
}

impl Recovery {
    /// A packet leaves.
    pub fn sent(&mut self, packet: &[u8]) {
        let Some(segment) = Segment::of(packet).filter(|segment| segment.length > 0) else {
            return;
        };
        self.largest = self.largest.max(segment.payload);
        let end = segment.seq.wrapping_add(segment.length);
        if self.sent.is_none_or(|sent| after(end, sent)) {
            self.sent = Some(end);
        } else if !std::mem::take(&mut self.asked) {
            self.until = None; // the timer ended: smoltcp repeats everything by itself
        }
    }

    /// A packet came; how often smoltcp is to see it once more, and then repeats a segment.
    pub fn received(&mut self, packet: &[u8]) -> u8 {
        let (Some(segment), Some(sent)) = (Segment::of(packet), self.sent) else {
            return 0;
        };
        let Some(ack) = segment.ack else {
            return 0;
        };
        let window = std::mem::replace(&mut self.window, segment.window);
        if self.acked.is_none_or(|acked| after(ack, acked)) {
            self.acked = Some(ack);
            self.duplicates = 0;
            self.until = self.until.filter(|until| after(*until, ack));
            if self.until.is_none() || segment.payload > 0 {
                return 0;
            }
            self.duplicates = DUPLICATES;
            self.asked = true;
            return DUPLICATES;
        }
        if self.acked != Some(ack) {
            return 0; // an old one
        }
        if segment.length > 0 || window != segment.window || !after(sent, ack) {
            self.duplicates = 0;
            return 0;
        }
        let before = self.duplicates;
        self.duplicates = before.saturating_add(1);
        let others = sent.wrapping_sub(ack).div_ceil(self.largest.max(1)) - 1;
        let enough = others.clamp(1, DUPLICATES.into()) as u8;
        if others == 0 || before >= enough || self.duplicates < enough {
            return 0;
        }
        self.until.get_or_insert(sent);
        self.asked = true;
        let missing = DUPLICATES - self.duplicates;
        self.duplicates = DUPLICATES;
        missing
    }
}

/// Sequence numbers go round (RFC 9293 §3.4).
fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u32 = u32::MAX - 250; // the numbers go round in the middle
    const SIZE: u32 = 100;

    fn packet(seq: u32, ack: u32, payload: u32, window: u16) -> Vec<u8> {
        let total = 60 + payload;
        let mut data = vec![0; total as usize];
        data[0] = 0x60;
        data[4..6].copy_from_slice(&(20 + payload as u16).to_be_bytes());
        data[6] = ip::TCP;
        data[40 + 4..48].copy_from_slice(&seq.to_be_bytes());
        data[40 + 8..52].copy_from_slice(&ack.to_be_bytes());
        data[40 + 12] = 5 << 4;
        data[40 + 13] = ACK;
        data[40 + 14..56].copy_from_slice(&window.to_be_bytes());
        data
    }

    fn nth(index: u32) -> u32 {
        BASE.wrapping_add(index * SIZE)
    }

    fn sends(recovery: &mut Recovery, index: u32) {
        recovery.sent(&packet(nth(index), 1, SIZE, 9));
    }

    fn hears(recovery: &mut Recovery, index: u32) -> u8 {
        recovery.received(&packet(1, nth(index), 0, 9))
    }

    fn noticed() -> Recovery {
        let mut recovery = Recovery::default();
        for index in 0..6 {
            sends(&mut recovery, index);
        }
        for _ in 0..4 {
            assert_eq!(hears(&mut recovery, 1), 0); // 1 is lost, and noticed
        }
        sends(&mut recovery, 1);
        recovery
    }

    #[test]
    fn what_acknowledges_less_than_was_under_way_names_the_next_loss() {
        let mut recovery = noticed();
        assert_eq!(hears(&mut recovery, 3), 3);
        sends(&mut recovery, 3);
        assert_eq!(hears(&mut recovery, 3), 0); // a duplicate names nothing else
        assert_eq!(hears(&mut recovery, 5), 3);
        sends(&mut recovery, 5);
        assert_eq!(hears(&mut recovery, 6), 0);
        sends(&mut recovery, 6);
        sends(&mut recovery, 7);
        assert_eq!(hears(&mut recovery, 7), 0); // recovered: an ordinary one
    }

    #[test]
    fn without_a_loss_nothing_is_repeated() {
        let mut recovery = Recovery::default();
        for index in 0..20 {
            sends(&mut recovery, index);
            assert_eq!(hears(&mut recovery, index), 0);
        }
    }

    #[test]
    fn less_than_four_under_way_need_less_duplicates() {
        for (under_way, before) in [(2, 0), (3, 1), (4, 2)] {
            let mut recovery = Recovery::default();
            for index in 0..=under_way {
                sends(&mut recovery, index);
            }
            assert_eq!(hears(&mut recovery, 1), 0);
            for _ in 0..before {
                assert_eq!(hears(&mut recovery, 1), 0);
            }
            assert_eq!(hears(&mut recovery, 1), 2 - before); // with it smoltcp has seen three
            assert_eq!(hears(&mut recovery, 1), 0);
        }
    }

    #[test]
    fn one_under_way_is_left_to_the_timer() {
        let mut recovery = Recovery::default();
        sends(&mut recovery, 0);
        assert_eq!(hears(&mut recovery, 0), 0);
        sends(&mut recovery, 1);
        for _ in 0..5 {
            assert_eq!(hears(&mut recovery, 1), 0);
        }
    }

    #[test]
    fn after_the_timer_smoltcp_is_left_alone() {
        let mut recovery = noticed();
        sends(&mut recovery, 1);
        assert_eq!(hears(&mut recovery, 3), 0);
        assert_eq!(hears(&mut recovery, 5), 0);
    }

    #[test]
    fn updates_of_the_window_and_data_are_no_duplicates() {
        let mut recovery = Recovery::default();
        for index in 0..6 {
            sends(&mut recovery, index);
        }
        assert_eq!(hears(&mut recovery, 1), 0);
        for window in 10..20 {
            assert_eq!(recovery.received(&packet(1, nth(1), 0, window)), 0);
            assert_eq!(recovery.received(&packet(1, nth(1), 50, window)), 0);
        }
        assert_eq!(hears(&mut recovery, 3), 0);
    }

    #[test]
    fn garbage_is_ignored() {
        let mut recovery = noticed();
        for length in 0..60 {
            assert_eq!(recovery.received(&packet(1, nth(3), 0, 9)[..length]), 0);
            recovery.sent(&packet(1, nth(3), 0, 9)[..length]);
        }
        assert_eq!(hears(&mut recovery, 3), 3);
    }
}
