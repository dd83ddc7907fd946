//! Compiled filter rules: an allow-list, so the empty one denies everything new.
//!
//! As bytes, big-endian; `a` is 4 or 16 bytes:
//!
//! ```text
//! for IPv4, then for IPv6:  u32 rules, then each:
//!     32 bytes   bit p & 7 of byte p >> 3: protocol p
//!     u32 u32    sources, destinations
//!     a a        first and last source; disjoint and ascending
//!     a a u16 u16  first and last destination, first and last port
//! ```

struct Destination {
    first: u128,
    last: u128,
    first_port: u16,
    last_port: u16,
}

/// A protocol in a rule that joins no addresses for ICMP; no packet has it.
const PORTS_ONLY: u8 = 0;

struct Rule {
    protos: [u8; 32],
    sources: Vec<(u128, u128)>,
    destinations: Vec<Destination>,
}

impl Rule {
    fn has_proto(&self, proto: u8) -> bool {
        self.protos[usize::from(proto >> 3)] & (1 << (proto & 7)) != 0
    }

    fn has_source(&self, src: u128) -> bool {
        let at = self.sources.partition_point(|(first, _)| *first <= src);
        at > 0 && src <= self.sources[at - 1].1
    }
}

/// Rules by family.
#[derive(Default)]
pub struct Filter {
    v4: Vec<Rule>,
    v6: Vec<Rule>,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self, size: usize) -> Option<u128> {
        let (head, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(head.iter().fold(0, |n, byte| n << 8 | u128::from(*byte)))
    }

    fn family(&mut self, size: usize) -> Option<Vec<Rule>> {
        let count = self.number(4)?;
        (0..count).map(|_| self.rule(size)).collect()
    }

    fn rule(&mut self, size: usize) -> Option<Rule> {
        let (protos, rest) = self.0.split_first_chunk()?;
        let protos = *protos;
        self.0 = rest;
        let (sources, destinations) = (self.number(4)?, self.number(4)?);
        Some(Rule {
            protos,
            sources: (0..sources)
                .map(|_| Some((self.number(size)?, self.number(size)?)))
                .collect::<Option<_>>()?,
            destinations: (0..destinations)
                .map(|_| {
                    Some(Destination {
                        first: self.number(size)?,
                        last: self.number(size)?,
                        first_port: self.number(2)? as u16,
                        last_port: self.number(2)? as u16,
                    })
                })
                .collect::<Option<_>>()?,
        })
    }
}

impl Filter {
    /// From bytes; `None` if they are not as described.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let mut reader = Reader(data);
        let filter = Self {
            v4: reader.family(4)?,
            v6: reader.family(16)?,
        };
        reader.0.is_empty().then_some(filter)
    }

    fn family(&self, version: u8) -> &[Rule] {
        if version == 4 { &self.v4 } else { &self.v6 }
    }

    fn any(
        &self,
        version: u8,
        src: u128,
        dst: u128,
        test: impl Fn(&Rule, Option<&Destination>) -> bool,
    ) -> bool {
        self.family(version).iter().any(|rule| {
            test(rule, None)
                && rule.has_source(src)
                && rule
                    .destinations
                    .iter()
                    .any(|to| to.first <= dst && dst <= to.last && test(rule, Some(to)))
        })
    }

    /// True if a rule lets a new TCP, UDP or SCTP flow in.
    pub fn allows(&self, version: u8, proto: u8, src: u128, dst: u128, port: u16) -> bool {
        self.any(version, src, dst, |rule, to| match to {
            None => rule.has_proto(proto),
            Some(to) => to.first_port <= port && port <= to.last_port,
        })
    }

    /// True if a rule joins the addresses, whatever its protocols and ports (ICMP).
    pub fn allows_addresses(&self, version: u8, src: u128, dst: u128) -> bool {
        self.any(version, src, dst, |rule, _| !rule.has_proto(PORTS_ONLY))
    }

    /// True if a rule lists a protocol without ports and leaves all ports open.
    pub fn allows_protocol(&self, version: u8, proto: u8, src: u128, dst: u128) -> bool {
        self.any(version, src, dst, |rule, to| match to {
            None => rule.has_proto(proto),
            Some(to) => to.first_port == 0 && to.last_port == u16::MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_bytes_are_refused() {
        let mut data = vec![0, 0, 0, 1];
        data.extend([0xFF; 32]);
        data.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        data.extend([0, 0, 0, 0, 255, 255, 255, 255]);
        data.extend([0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 255, 255]);
        data.extend([0, 0, 0, 0]);
        let filter = Filter::parse(&data).expect("whole");
        assert!(filter.allows(4, 6, 7, 8, 80));
        assert!(!filter.allows(6, 6, 7, 8, 80));
        for len in 0..data.len() {
            assert!(Filter::parse(&data[..len]).is_none());
        }
        data.push(0);
        assert!(Filter::parse(&data).is_none());
        assert!(Filter::parse(&[255; 12]).is_none());
    }
}
