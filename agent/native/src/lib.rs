//! The packet path of tailnet.  Everything but `py` is free of Python; `unsafe` is in `sys` only.

pub mod clock;
pub mod datapath;
pub mod handshake;
pub mod hash;
pub mod netstack;
pub mod sys;

#[cfg(feature = "python")]
mod py;

/// What Python checks on import: it grows with every incompatible change of the Python side.
pub const INTERFACE: u32 = 13;
