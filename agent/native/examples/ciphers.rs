//! What a message costs to seal and to open with each cipher that is here, whichever the daemon would
//! take: `cargo run --release --example ciphers`.

use std::time::Instant;

use tailnet_native::datapath::crypto::aead::{Key, Suite, TAG, Wanted};

const SIZES: [usize; 5] = [64, 256, 576, 1200, 1280];
const ROUNDS: usize = 400; // of which the fastest counts
const MESSAGES: u64 = 128; // each

fn main() {
    println!("{:>24} {:>6} {:>6} {:>6}", "", "bytes", "seal", "open");
    for wanted in [Wanted::Ring, Wanted::IpsecMb] {
        let suite = match Suite::choose(wanted) {
            Ok(suite) => suite,
            Err(reason) => {
                println!("{wanted:?}: {reason}");
                continue;
            }
        };
        let (mut cipher, key) = (suite.cipher(), Key::new(&[7; 32]));
        for size in SIZES {
            let mut message = vec![0; size + TAG];
            let (mut seal, mut open) = (u128::MAX, u128::MAX);
            for _ in 0..ROUNDS {
                let begun = Instant::now();
                for counter in 0..MESSAGES {
                    cipher.seal(&key, counter, &mut message);
                }
                seal = seal.min(begun.elapsed().as_nanos());
                let sealed: Vec<_> = (0..MESSAGES)
                    .map(|counter| {
                        let mut message = message.clone();
                        cipher.seal(&key, counter, &mut message);
                        message
                    })
                    .collect();
                let mut sealed = sealed;
                let begun = Instant::now();
                for (counter, message) in sealed.iter_mut().enumerate() {
                    assert!(cipher.open(&key, counter as u64, message));
                }
                open = open.min(begun.elapsed().as_nanos());
            }
            let each = |whole: u128| whole / u128::from(MESSAGES);
            let name = suite.name();
            println!("{name:>24} {size:>6} {:>6} {:>6}", each(seal), each(open));
        }
    }
}
