//! Geneve, in front of what goes through a peer relay; see `tailnet.agent.disco.geneve`.
//!
//! ```text
//! 0 zero   1 control = 0x80   2 protocol u16   4 session u24   7 zero   8 payload
//! ```
//!
//! Source: RFC 8926 section 3.4; tailscale net/packet/geneve.go.

use std::net::SocketAddr;

use crate::datapath::report::traffic::Kind;

/// Bytes of the header.
pub const LEN: usize = 8;

const CONTROL: u8 = 0x80;
const DISCO: [u8; 2] = [0x7a, 0x11];
const WIREGUARD: [u8; 2] = [0x7a, 0x12];

/// An address, or a session at the relay there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The peer, or the relay.
    pub addr: SocketAddr,
    /// Number of the session; 0 for the peer itself.
    pub vni: u32,
}

impl Way {
    /// What kind of path this is.
    pub const fn kind(&self) -> Kind {
        Kind::udp(self.addr.is_ipv6(), self.vni != 0)
    }

    /// What goes before each datagram, if anything does.
    pub fn head(&self) -> Option<[u8; LEN]> {
        let [_, a, b, c] = self.vni.to_be_bytes();
        (self.vni != 0).then_some([0, 0, WIREGUARD[0], WIREGUARD[1], a, b, c, 0])
    }
}

/// What a header says is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// Disco; with the control bit it is the relay's own.
    Disco,
    /// WireGuard.
    WireGuard,
}

/// Session and kind of what came through a relay; `None` if there is no such header.
pub fn parse_untrusted(data: &[u8]) -> Option<(u32, Inner)> {
    let [0, control, p, q, a, b, c, 0, ..] = *data else {
        return None;
    };
    let vni = u32::from_be_bytes([0, a, b, c]);
    match ([p, q], control) {
        _ if vni == 0 => None,
        (DISCO, 0 | CONTROL) => Some((vni, Inner::Disco)),
        (WIREGUARD, 0) => Some((vni, Inner::WireGuard)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Inner, Way, parse_untrusted};

    #[test]
    fn a_header_says_what_it_was_made_of() {
        let addr = ([192, 0, 2, 1], 7).into();
        let way = Way {
            addr,
            vni: 0x01_02_03,
        };
        let head = way.head().expect("a session");
        assert_eq!(head, [0, 0, 0x7a, 0x12, 1, 2, 3, 0]);
        assert_eq!(parse_untrusted(&head), Some((0x01_02_03, Inner::WireGuard)));
        assert_eq!(Way { addr, vni: 0 }.head(), None);
    }

    #[test]
    fn what_must_be_zero_is_zero() {
        let disco = [0, 0x80, 0x7a, 0x11, 0, 0, 1, 0];
        assert_eq!(parse_untrusted(&disco), Some((1, Inner::Disco)));
        for (at, bad) in [(0, 1), (1, 0x81), (2, 0x7b), (6, 0), (7, 1)] {
            let mut header = disco;
            header[at] = bad;
            assert_eq!(parse_untrusted(&header), None, "byte {at}");
        }
        let control = [0, 0x80, 0x7a, 0x12, 0, 0, 1, 0];
        assert_eq!(parse_untrusted(&control), None);
        assert_eq!(parse_untrusted(&disco[..7]), None);
    }
}
