//! Who the peers are, and which of them has a prefix that several claim.

use std::collections::HashMap;
use std::sync::Arc;

use crate::datapath::tables::masquerade::Masquerade;
use crate::datapath::tables::peer::Peer;
use crate::datapath::tables::prefixes::{Allowed, Prefix, Prefixes};
use crate::hash::Seeded;

/// Destination → peer.
pub type Routes = Prefixes<Arc<Peer>>;

/// What the slow path says of a peer.
#[derive(Default)]
pub struct Entry {
    /// Destinations routed to it, and the only sources it may use.
    pub allowed: Vec<Prefix>,
    /// What it calls us.
    pub masquerade: Masquerade,
}

impl From<Vec<Prefix>> for Entry {
    fn from(allowed: Vec<Prefix>) -> Self {
        Self {
            allowed,
            ..Self::default()
        }
    }
}

struct Member {
    peer: Arc<Peer>,
    prefixes: Box<[Prefix]>,
    place: u64, // of two that claim one prefix the later one has it
}

/// All peers by their handle.  Routes are changed along, and belong to the caller.
#[derive(Default)]
pub struct Members {
    by_id: HashMap<u64, Member, Seeded>,
    next: u64,
    // Handles of all who claim a prefix that more than one claims.
    contested: HashMap<Prefix, Vec<u64>>,
}

impl Members {
    /// A peer by its handle.
    pub fn get(&self, id: u64) -> Option<&Arc<Peer>> {
        self.by_id.get(&id).map(|member| &member.peer)
    }

    /// All of them.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_id.values().map(|member| &member.peer)
    }

    /// Take one out, without its routes.
    pub fn take(&mut self, id: u64) -> Option<Arc<Peer>> {
        self.by_id.remove(&id).map(|member| member.peer)
    }

    /// Add the last one, which may have been here before as `known`.
    pub fn set(&mut self, id: u64, entry: &Entry, known: Option<Arc<Peer>>, routes: &mut Routes) {
        let prefixes = &entry.allowed;
        let allowed = Allowed::new(prefixes);
        let peer = match known {
            Some(peer) => {
                peer.allowed.store(Arc::new(allowed));
                peer
            }
            None => Arc::new(Peer::new(id, allowed)),
        };
        peer.set_masquerade(&entry.masquerade);
        let place = self.next;
        self.next += 1;
        self.put(id, peer, prefixes, place, routes);
    }

    /// Give one that is here other prefixes, at its place; or add the last one.
    pub fn change(&mut self, id: u64, entry: &Entry, routes: &mut Routes) {
        let Some(member) = self.by_id.get(&id) else {
            return self.set(id, entry, None, routes);
        };
        let prefixes = &entry.allowed;
        let (peer, place) = (Arc::clone(&member.peer), member.place);
        peer.set_masquerade(&entry.masquerade);
        if *member.prefixes == **prefixes {
            return;
        }
        self.remove(id, routes);
        peer.allowed.store(Arc::new(Allowed::new(prefixes)));
        self.put(id, peer, prefixes, place, routes);
    }

    /// Take one out, with its routes.
    pub fn remove(&mut self, id: u64, routes: &mut Routes) -> Option<Arc<Peer>> {
        let member = self.by_id.remove(&id)?;
        for prefix in &member.prefixes {
            if let Some(claims) = self.contested.get_mut(prefix) {
                claims.retain(|other| *other != id);
                if claims.len() < 2 {
                    let last = self.contested.remove(prefix);
                    self.settle(*prefix, &last.unwrap_or_default(), routes);
                } else {
                    let claims = claims.clone();
                    self.settle(*prefix, &claims, routes);
                }
            } else if routes.get(*prefix).is_some_and(|owner| owner.id == id) {
                routes.remove(*prefix);
            }
        }
        Some(member.peer)
    }

    fn put(
        &mut self,
        id: u64,
        peer: Arc<Peer>,
        prefixes: &[Prefix],
        place: u64,
        routes: &mut Routes,
    ) {
        let member = Member {
            peer: Arc::clone(&peer),
            prefixes: prefixes.into(),
            place,
        };
        self.by_id.insert(id, member);
        for prefix in prefixes {
            match routes.get(*prefix) {
                None => routes.insert(*prefix, Arc::clone(&peer)),
                Some(owner) if owner.id == id => {}
                Some(owner) => {
                    let first = owner.id;
                    let claims = self.contested.entry(*prefix).or_insert_with(|| vec![first]);
                    if !claims.contains(&id) {
                        claims.push(id);
                    }
                    let claims = claims.clone();
                    self.settle(*prefix, &claims, routes);
                }
            }
        }
    }

    fn settle(&self, prefix: Prefix, claims: &[u64], routes: &mut Routes) {
        let members = claims.iter().filter_map(|id| self.by_id.get(id));
        if let Some(winner) = members.max_by_key(|member| member.place) {
            routes.insert(prefix, Arc::clone(&winner.peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(n: u64) -> Prefix {
        Prefix {
            version: 4,
            bits: 24 + (n % 9) as u8,
            address: u128::from(n % 9) << 8,
        }
    }

    /// The obvious way: everything anew, in order.
    fn naive(model: &[(u64, Vec<Prefix>)]) -> HashMap<Prefix, u64> {
        let each = |(id, all): &(u64, Vec<Prefix>)| {
            let id = *id;
            all.iter().map(move |p| (*p, id)).collect::<Vec<_>>()
        };
        model.iter().flat_map(each).collect()
    }

    #[test]
    fn changes_lead_where_everything_anew_would() {
        let mut state = 5u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(7);
            (state >> 33) % limit
        };
        let (mut members, mut routes) = (Members::default(), Routes::default());
        let mut model: Vec<(u64, Vec<Prefix>)> = Vec::new();
        for _ in 0..5000 {
            let id = below(6);
            let at = model.iter().position(|(known, _)| *known == id);
            if below(3) == 0 {
                members.remove(id, &mut routes);
                at.map(|at| model.remove(at));
            } else {
                let prefixes: Vec<Prefix> = (0..below(5)).map(|_| prefix(below(9))).collect();
                members.change(id, &prefixes.clone().into(), &mut routes);
                match at {
                    Some(at) => model[at].1 = prefixes,
                    None => model.push((id, prefixes)),
                }
            }
            let expected = naive(&model);
            for n in 0..9 {
                let owner = routes.get(prefix(n)).map(|peer| peer.id);
                assert_eq!(owner, expected.get(&prefix(n)).copied());
            }
        }
        for id in 0..6 {
            members.remove(id, &mut routes);
        }
        assert!(members.contested.is_empty());
    }
}
