//! Both sides, and what may come between them.

use std::sync::Arc;

use x25519_dalek::{PublicKey, StaticSecret};

use super::*;

const STAMP: Timestamp = *b"TAI64N stamp";

fn own(seed: u8) -> Arc<Own> {
    Own::new(Secret::new([seed; 32]), Secret::default())
}

fn begun(remote: &Own) -> Initiator {
    Initiator::new(&own(1), &remote.public, Secret::new([3; 32]), &STAMP).expect("a good key")
}

fn asked(own: &Arc<Own>, first: &[u8]) -> Result<Responder, Refused> {
    Responder::new(own, first, Secret::new([4; 32]))
}

#[test]
fn both_sides_get_the_same_keys() {
    let them = own(2);
    let initiator = begun(&them);
    let responder = asked(&them, initiator.first()).expect("for this key");
    assert_eq!(responder.remote(), &own(1).public);
    assert_eq!(responder.timestamp(), &STAMP);
    let (second, theirs) = responder.answer().expect("good keys");
    let ours = initiator.finish(&second).expect("an answer");
    assert_eq!((&ours.send, &ours.receive), (&theirs.receive, &theirs.send));
    assert_ne!(ours.send, ours.receive);
    assert_eq!(responder.answer(), Ok((second, theirs)));
}

#[test]
fn every_changed_bit_is_found_and_the_right_message_still_opens() {
    let them = own(2);
    let initiator = begun(&them);
    for bit in 0..FIRST * 8 {
        let mut first = initiator.first().to_vec();
        first[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            asked(&them, &first).err(),
            Some(Refused::Unauthentic),
            "{bit}"
        );
    }
    let (second, _) = asked(&them, initiator.first())
        .and_then(|it| it.answer())
        .expect("good");
    for bit in 0..SECOND * 8 {
        let mut other = second.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(initiator.finish(&other), Err(Refused::Unauthentic), "{bit}");
    }
    assert!(initiator.finish(&second).is_ok());
}

#[test]
fn other_lengths_are_refused_by_name() {
    let them = own(2);
    let initiator = begun(&them);
    for len in (0..300).filter(|&len| len != FIRST) {
        assert_eq!(asked(&them, &vec![9; len]).err(), Some(Refused::NotFirst));
    }
    for len in (0..300).filter(|&len| len != SECOND) {
        assert_eq!(initiator.finish(&vec![9; len]), Err(Refused::NotSecond));
    }
}

#[test]
fn a_message_for_another_key_and_an_answer_with_another_psk_are_refused() {
    let them = own(2);
    let initiator = begun(&them);
    assert_eq!(
        asked(&own(5), initiator.first()).err(),
        Some(Refused::Unauthentic)
    );
    let with_psk = Own::new(Secret::new([2; 32]), Secret::new([7; 32]));
    let responder = asked(&with_psk, initiator.first()).expect("the key comes in later");
    let (second, _) = responder.answer().expect("good keys");
    assert_eq!(initiator.finish(&second), Err(Refused::Unauthentic));
}

/// Points of order 1, 2, 4 and 8 on the curve and its twist, some written as numbers above the
/// field's.  Source: RFC 7748 §6.1; <https://cr.yp.to/ecdh.html>, "validate".
fn low_order() -> Vec<Key> {
    let mut found: Vec<Key> = Vec::new();
    for low in [0, 1] {
        let mut near = [0; 32];
        near[0] = low;
        found.push(near);
    }
    for low in [0xec, 0xed, 0xee] {
        let mut near = [0xff; 32];
        (near[0], near[31]) = (low, 0x7f);
        found.push(near);
        near[31] = 0xff; // the bit that nobody looks at
        found.push(near);
    }
    for eighth in EIGHTHS {
        found.push(
            eighth
                .map(u64::to_be_bytes)
                .concat()
                .try_into()
                .expect("32 bytes"),
        );
    }
    found
}

const EIGHTHS: [[u64; 4]; 2] = [
    [
        0xe0eb7a7c3b41b8ae,
        0x1656e3faf19fc46a,
        0xda098deb9c32b1fd,
        0x866205165f49b800,
    ],
    [
        0x5f9c95bca3508c24,
        0xb1d0b1559c83ef5b,
        0x04445cc4581c8e86,
        0xd8224eddd09f1157,
    ],
];

#[test]
fn low_order_points_share_no_secret() {
    for point in low_order() {
        let ephemeral = Secret::new([3; 32]);
        let refused = Initiator::new(&own(1), &point, ephemeral, &STAMP).err();
        assert_eq!(refused, Some(Refused::LowOrder), "{point:?}");
        let mut first = begun(&own(2)).first().to_vec();
        first[..32].copy_from_slice(&point);
        assert_eq!(asked(&own(2), &first).err(), Some(Refused::Unauthentic));
        let mut second = point.to_vec();
        second.resize(SECOND, 0);
        assert_eq!(begun(&own(2)).finish(&second), Err(Refused::Unauthentic));
    }
}

#[test]
fn private_keys_are_clamped_as_elsewhere() {
    let public = |private: [u8; 32]| PublicKey::from(&StaticSecret::from(private)).to_bytes();
    let mut other = [0x77; 32];
    (other[0], other[31]) = (0x70, 0x77);
    assert_eq!(public([0x77; 32]), public(other));
}

/// The handshake of tests/vectors/wireguard_handshake.py without a pre-shared key, which other
/// implementations computed: two sides of this one could make the same mistake.
#[test]
fn messages_and_keys_are_those_of_other_implementations() {
    let initiator = Initiator::new(&own(1), &own(2).public, Secret::new([3; 32]), &[7; 12]);
    let initiator = initiator.expect("a good key");
    assert_eq!(hex(initiator.first()), VECTOR_FIRST);
    let responder = asked(&own(2), initiator.first()).expect("for this key");
    let (second, keys) = responder.answer().expect("good keys");
    assert_eq!(hex(&second), VECTOR_SECOND);
    assert_eq!(hex(&keys.receive[..]), VECTOR_ASKING);
    assert_eq!(hex(&keys.send[..]), VECTOR_ANSWERING);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const VECTOR_FIRST: &str = "\
    5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef220a26599fb2188bb7\
    23276fc173af67616c817fc32fd04d686d87ec152fac10eed2bda3bb3b6f1eded6977684082284d8\
    50fc41b4cbcf9deeba2039d1c21710e7081f158a3f5bb6ceb5c344e3";
const VECTOR_SECOND: &str = "\
    ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b9f3b30d1fd428342\
    b38a0b0e98ae7efb";
const VECTOR_ASKING: &str = "b30c71d520eb54edcf0ad32b6c2e5bdff747e6e2bf8a126ae52eb1c7140b4398";
const VECTOR_ANSWERING: &str = "bc8d9cb5d3c1654d26eef4fab1426ff05fff238c2ddac280941197772e21c21c";

#[test]
fn keys_do_not_print() {
    let them = own(2);
    let responder = asked(&them, begun(&them).first()).expect("for this key");
    let (_, keys) = responder.answer().expect("good keys");
    assert_eq!(format!("{keys:?}"), "Keys { .. }");
}
