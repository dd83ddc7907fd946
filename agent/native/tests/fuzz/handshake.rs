//! WireGuard's handshake under fuzz.

use std::array::from_fn;

use tailnet_native::handshake::{FIRST, Initiator, Own, Responder, SECOND, Secret};

const STAMP: [u8; 12] = [7; 12];

/// Neither side is brought down by a message, and each takes the one that is right and no other.
pub fn handshake(data: &[u8]) {
    let [ours, theirs] = [1, 2].map(|key| Own::new(Secret::new([key; 32]), Secret::default()));
    let one = Secret::new(from_fn(|at| data.get(at).copied().unwrap_or(3)));
    let asks = Initiator::new(&ours, theirs.public(), one, &STAMP).expect("a good key");
    let two = || Secret::new([4; 32]);
    assert!(Responder::new(&theirs, data, two()).is_err());
    assert!(asks.finish(data).is_err());

    let right: [u8; FIRST] = asks.first().try_into().expect("of this size");
    let first = changed(&right, data);
    let asked = Responder::new(&theirs, &first, two());
    assert_eq!(asked.is_ok(), first == right);
    let asked = Responder::new(&theirs, &right, two()).expect("the right one");
    assert_eq!((asked.remote(), asked.timestamp()), (ours.public(), &STAMP));

    let (second, keys) = asked.answer().expect("good keys");
    let right: [u8; SECOND] = second.try_into().expect("of this size");
    let second = changed(&right, data);
    assert_eq!(asks.finish(&second).is_ok(), second == right);
    let other = asks.finish(&right).expect("the right one");
    assert_eq!((&other.send, &other.receive), (&keys.receive, &keys.send));
}

fn changed<const N: usize>(right: &[u8; N], data: &[u8]) -> [u8; N] {
    from_fn(|at| right[at] ^ data.get(at).copied().unwrap_or(0))
}
