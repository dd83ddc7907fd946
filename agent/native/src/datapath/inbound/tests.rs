//! Several messages at once.

use super::*;
use crate::clock::Clock;
use crate::datapath::tables::prefixes::Allowed;
use crate::datapath::tables::session::Session;

const PEERS: u32 = 50; // more than one look ahead takes

fn session(local: u32, [send, receive]: [u8; 2]) -> Session {
    Session {
        local,
        remote: local,
        send_key: [send; 32],
        receive_key: [receive; 32],
        created: 0.0,
        initiator: true,
    }
}

/// Keepalives of all peers in turn, the last peer's a replay, one of nobody behind each.
#[test]
fn messages_of_many_peers_in_one_read_are_each_their_own() {
    let tables = Arc::new(Tables::new(Clock::manual(), 100).expect("an eventfd"));
    let ids = 1..=PEERS;
    let entries: Vec<_> = ids.clone().map(|n| (n.into(), vec![].into())).collect();
    tables.set_peers(&entries);
    let (mut data, mut messages) = (Vec::new(), Vec::new());
    for n in ids.clone().chain([PEERS]) {
        let keys = [n as u8, n as u8 + 100];
        let peer = tables.peer(n.into()).expect("just set");
        if peer.current.load().is_none() {
            tables.add_session(&peer, &session(n, keys));
        }
        for index in [n, n + PEERS] {
            let far = Peer::new(0, Allowed::new(&[]));
            let far = Keys::new(Arc::new(far), &session(index, [keys[1], keys[0]]));
            let start = data.len();
            data.resize(start + OVERHEAD, 0);
            far.seal(&mut tables.suite.cipher(), &mut data[start..], 5);
            messages.push(Incoming {
                start,
                len: OVERHEAD,
                size: OVERHEAD,
                src: None,
            });
        }
    }
    let mut inbound = Inbound::new(Arc::clone(&tables), false, Joined::default());
    inbound.begin();
    inbound.receive_all(&mut data, &messages, 7.0);
    for n in ids {
        let peer = tables.peer(n.into()).expect("still there");
        assert_eq!(peer.activity().1.to_bits(), 7f64.to_bits(), "peer {n}");
    }
    let drops = tables.drops.snapshot();
    assert_eq!(drops[Reason::InNoSession as usize], u64::from(PEERS) + 1);
    assert_eq!(drops[Reason::InReplay as usize], 1);
    assert_eq!(drops.iter().sum::<u64>(), u64::from(PEERS) + 2);
}
