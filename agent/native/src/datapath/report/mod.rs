//! What the slow path learns: upcalls, counters, and copies of packets.

pub mod drops;
pub mod tap;
pub mod traffic;
pub mod upcalls;
