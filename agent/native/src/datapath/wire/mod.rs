//! Packets and headers, as bytes: nothing here has state.

pub mod checksum;
pub mod clamp;
pub mod classify;
pub mod geneve;
pub mod intact;
pub mod packet;
pub mod readdress;
pub mod vnet;
