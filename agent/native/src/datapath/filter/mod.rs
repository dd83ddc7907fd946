//! The verdict on one packet.
//!
//! Source: tailscale wgengine/filter/filter.go, RunIn, RunOut, pre, runIn4, runIn6.

pub mod flows;
pub mod limiter;
pub mod opens;
pub mod reject;
pub mod rules;

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};

use crate::datapath::filter::flows::{Flow, FlowCache};
use crate::datapath::filter::rules::Filter;
use crate::datapath::report::drops::Reason;
use crate::datapath::tables::prefixes::Prefixes;
use crate::datapath::wire::packet::{
    ACK, FRAGMENT, ICMP4, ICMP6, Parsed, SCTP, SYN, TCP, TSMP, UDP, UNKNOWN,
};
use crate::hash::Seeded;

const METADATA: u32 = 0xA9FE_A9FE; // the one link-local address that clouds make useful
const ECHO_LEN: usize = 8;
const VERDICTS: usize = 1024; // rule lookups remembered; a power of two

/// What inbound packets are judged by.
#[derive(Clone, Default)]
pub struct Policy {
    /// Destinations they may have.
    pub local: Arc<Prefixes<()>>,
    /// Rules for new flows.
    pub filter: Arc<Filter>,
    /// There are no rules because the user wants none.
    pub shields_up: bool,
}

/// What holds in both directions; `None` means: look further.
pub fn precheck(packet: &Parsed) -> Option<Result<(), Reason>> {
    if packet.proto == UNKNOWN {
        return Some(Err(Reason::InMalformed));
    }
    if packet.version == 4 {
        let dst = packet.dst as u32;
        if dst >> 28 == 0xE {
            return Some(Err(Reason::InMulticast));
        }
        if dst >> 16 == 0xA9FE && dst != METADATA {
            return Some(Err(Reason::InLinkLocal));
        }
    } else if packet.dst >> 120 == 0xFF {
        return Some(Err(Reason::InMulticast));
    } else if packet.dst >> 118 == 0xFE80 >> 6 {
        return Some(Err(Reason::InLinkLocal));
    }
    (packet.proto == FRAGMENT).then_some(Ok(()))
}

/// True if an outbound packet may leave; UDP and SCTP open the way for replies.
pub fn outbound(packet: &Parsed, flows: &Mutex<FlowCache>) -> bool {
    match precheck(packet) {
        Some(verdict) => verdict.is_ok(),
        None => {
            note_sent(packet, flows);
            true
        }
    }
}

/// Record flow state of a packet that leaves.
pub fn note_sent(packet: &Parsed, flows: &Mutex<FlowCache>) {
    if packet.proto == UDP || packet.proto == SCTP {
        crate::datapath::lock(flows).note(Flow::reply_to(packet));
    }
}

/// Judges inbound packets for one thread, and remembers what the rules said.
pub struct Matcher {
    policy: Arc<Policy>,
    verdicts: Vec<Option<(Flow, bool)>>,
    hash: Seeded,
    // The flow whose reply passed last in this batch.
    last: Option<Flow>,
}

impl Matcher {
    /// With an empty memory.
    pub fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            verdicts: vec![None; VERDICTS],
            hash: Seeded::default(),
            last: None,
        }
    }

    /// The user wants nothing new to come in.
    pub fn shields_up(&self) -> bool {
        self.policy.shields_up
    }

    /// A new batch: take `policy` from now on.
    pub fn begin(&mut self, policy: Arc<Policy>) {
        if !Arc::ptr_eq(&self.policy, &policy) {
            self.policy = policy;
            self.verdicts.fill(None);
        }
        self.last = None;
    }

    /// May a packet from a peer, its source already checked, come in?
    ///
    /// # Errors
    /// Why it may not.
    pub fn inbound(&mut self, packet: &Parsed, flows: &Mutex<FlowCache>) -> Result<(), Reason> {
        if let Some(verdict) = precheck(packet) {
            return verdict;
        }
        if self
            .policy
            .local
            .lookup(packet.version, packet.dst)
            .is_none()
        {
            return Err(Reason::InNotLocal);
        }
        if self.accepts(packet, flows) {
            Ok(())
        } else {
            Err(Reason::InDenied)
        }
    }

    fn accepts(&mut self, packet: &Parsed, flows: &Mutex<FlowCache>) -> bool {
        match packet.proto {
            // Only an opening SYN asks the rules: a stray segment finds no socket anyway.
            TCP if packet.flags & (SYN | ACK) != SYN => return true,
            UDP | SCTP => {
                let flow = Flow::of(packet);
                if self.last == Some(flow) {
                    return true;
                }
                if crate::datapath::lock(flows).is_reply(&flow) {
                    self.last = Some(flow);
                    return true;
                }
            }
            TSMP => return true,
            _ if is_icmp_answer(packet) => return true,
            _ => {}
        }
        let key = Flow::of(&Parsed {
            src_port: 0,
            ..*packet
        });
        let slot = self.hash.hash_one(key) as usize % VERDICTS;
        if let Some((known, verdict)) = self.verdicts[slot]
            && known == key
        {
            return verdict;
        }
        let verdict = ask_rules(packet, &self.policy.filter);
        self.verdicts[slot] = Some((key, verdict));
        verdict
    }
}

fn ask_rules(packet: &Parsed, filter: &Filter) -> bool {
    let Parsed {
        version,
        proto,
        src,
        dst,
        dst_port,
        ..
    } = *packet;
    match proto {
        TCP | UDP | SCTP => filter.allows(version, proto, src, dst, dst_port),
        ICMP4 if version == 4 => filter.allows_addresses(version, src, dst),
        ICMP6 if version == 6 => filter.allows_addresses(version, src, dst),
        _ => filter.allows_protocol(version, proto, src, dst),
    }
}

/// Echo replies and errors: answers to something that left.
fn is_icmp_answer(packet: &Parsed) -> bool {
    let (errors, reply): (&[u8], u8) = match (packet.proto, packet.version) {
        (ICMP4, 4) => (&[3, 11, 0x12], 0), // upstream's parameter problem is 0x12, not 12
        (ICMP6, 6) => (&[1, 2, 3, 4], 129),
        _ => return false,
    };
    let long_enough = packet.length - packet.payload >= ECHO_LEN;
    errors.contains(&packet.flags) || (packet.flags == reply && packet.code == 0 && long_enough)
}
