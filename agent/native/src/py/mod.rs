//! What Python sees: arguments are converted here and nothing else happens.

mod convert;
mod datapath;
mod handshake;
mod netstack;
mod upcalls;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod tailnet_native {
    #[pymodule_export]
    use super::datapath::Datapath;

    #[pymodule_export]
    use super::datapath::choose_aead;

    #[pymodule_export]
    use super::handshake::Handshakes;

    #[pymodule_export]
    use super::handshake::Initiator;

    #[pymodule_export]
    use super::handshake::Responder;

    #[pymodule_export]
    use super::netstack::Netstack;

    #[pymodule_export]
    const INTERFACE: u32 = crate::INTERFACE;

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
