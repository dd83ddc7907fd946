//! Who seals, what was seen already, and what a message proves before Python sees it.

pub mod aead;
pub mod mac1;
pub mod replay;
