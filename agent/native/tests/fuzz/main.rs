//! The fuzz bodies for a moment, the same every time; with FUZZ_SECONDS for as long, and new.

mod bodies;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const ROUNDS: usize = 500;

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    /// An IP packet of either version, often broken somewhere.
    fn packet(&mut self, seq: u32) -> Vec<u8> {
        let six = self.below(2) == 1;
        let proto = [6, 6, 17, if six { 58 } else { 1 }][self.below(4)];
        let body = [0, 8, 20, 21, 120, 1240, 2960][self.below(7)];
        let mut packet = vec![0; if six { 40 } else { 20 }];
        let header = packet.len();
        if six {
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(body as u16).to_be_bytes());
            packet[6..8].copy_from_slice(&[proto, 64]);
            packet[23] = self.below(3) as u8;
            packet[39] = 9;
        } else {
            packet[..2].copy_from_slice(&[0x45, 0]);
            packet[2..4].copy_from_slice(&((header + body) as u16).to_be_bytes());
            packet[6] = [0, 0x40, 0x20][self.below(3)];
            packet[8..10].copy_from_slice(&[64, proto]);
            packet[12..20].copy_from_slice(&[10, 0, 0, self.below(3) as u8, 10, 0, 0, 9]);
        }
        packet.resize(header + body, 0);
        let len = packet.len();
        if body >= 20 {
            let transport = &mut packet[header..];
            transport[..4].copy_from_slice(&[0, 80, 0, 80]);
            transport[4..8].copy_from_slice(&(seq * 100).to_be_bytes());
            transport[12..14].copy_from_slice(&[0x50, 0x10]);
        }
        for _ in 0..self.below(4) {
            let at = self.below(len);
            packet[at] = self.below(256) as u8;
        }
        packet
    }

    fn input(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        match self.below(8) {
            0 => {
                let len = self.below(200);
                data.extend((0..len).map(|_| self.below(256) as u8));
            }
            1 => data = self.packet(0),
            2 => {
                let gso = [0, 1, 4, 5][self.below(4)];
                let packet = self.packet(0);
                let header = if packet[0] >> 4 == 6 { 40 } else { 20 };
                data.extend([1, gso, header + 20, 0, 100, 0, header, 0, 16, 0]);
                data.extend(packet);
            }
            _ => {
                for seq in 0..self.below(12) as u32 {
                    let mut piece = Vec::new();
                    if self.below(2) == 0 {
                        piece.push(self.below(256) as u8);
                        if self.below(2) == 0 {
                            piece.extend([0; 10]);
                        }
                    }
                    piece.extend(self.packet(seq));
                    data.extend((piece.len() as u16).to_be_bytes());
                    data.extend(piece);
                }
            }
        }
        data
    }
}

#[test]
fn no_body_panics() {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(0, |text| text.parse().expect("a number"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = if seconds > 0 {
        since.map_or(1, |time| time.as_nanos() as u64 | 1)
    } else {
        88_172_645_463_325_252
    };
    let mut dice = Dice(seed);
    for (name, body) in bodies::BODIES {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut rounds = 0;
        while rounds < ROUNDS || Instant::now() < until {
            let data = dice.input();
            let failed = std::panic::catch_unwind(|| body(&data)).is_err();
            assert!(!failed, "{name} (seed {seed}): {data:02x?}");
            rounds += 1;
        }
        println!("{name}: {rounds} inputs");
    }
}
