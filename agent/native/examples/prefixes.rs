//! What crypto-key routing costs with 100,000 prefixes:
//! `cargo run --release --example prefixes`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use tailnet_native::datapath::tables::prefixes::{Prefix, Prefixes};

const COUNT: u128 = 100_000;
const LOOKUPS: u32 = 2_000_000;

/// Prefixes that do not overlap: single addresses, or networks of eight lengths.
fn prefix(i: u128, hosts: bool) -> Prefix {
    let bits = if hosts { 32 } else { 24 + (i % 8) as u8 };
    let address = (i << 8) & (u128::from(u32::MAX) << (32 - bits));
    Prefix {
        version: 4,
        bits,
        address,
    }
}

fn main() {
    for (name, hosts) in [("single addresses", true), ("networks of 8 lengths", false)] {
        let began = Instant::now();
        let mut table = Prefixes::default();
        for i in 0..COUNT {
            table.insert(prefix(i, hosts), Arc::new(i));
        }
        println!(
            "{name}: built in {:.1} ms",
            began.elapsed().as_secs_f64() * 1e3
        );
        let mut state = 1u64;
        let began = Instant::now();
        for _ in 0..LOOKUPS {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(99);
            let address = (u128::from(state >> 33) % COUNT) << 8;
            black_box(table.lookup(4, address));
        }
        let each = began.elapsed().as_secs_f64() * 1e9 / f64::from(LOOKUPS);
        println!("{name}: a random lookup takes {each:.0} ns");
        let began = Instant::now();
        for i in 0..1000 {
            let mut copy = table.clone();
            copy.insert(prefix(i * 97, hosts), Arc::new(0));
            table = copy;
        }
        let each = began.elapsed().as_secs_f64() * 1e3;
        println!("{name}: a copy with one change takes {each:.0} us");
    }
}
