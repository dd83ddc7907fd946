//! What Python sees: arguments are converted here and nothing else happens.

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod tailnet_native {
    #[pymodule_export]
    const INTERFACE: u32 = crate::INTERFACE;
}
