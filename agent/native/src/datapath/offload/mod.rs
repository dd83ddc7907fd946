//! Super-packets: cut for the network, joined for the TUN device.

pub mod coalesce;
pub mod group;
pub mod split;
