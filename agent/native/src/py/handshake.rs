//! WireGuard's handshake as Python sees it: arguments are converted here and nothing else happens.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::convert::{bad, key};
use crate::handshake::{self, Keys, Own, Refused, Secret};

type PyKeys<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

fn refused(why: Refused) -> PyErr {
    PyValueError::new_err(why.to_string())
}

fn secret(data: &[u8]) -> PyResult<Secret> {
    key(data).map(Secret::new)
}

fn pair<'py>(py: Python<'py>, keys: &Keys) -> PyKeys<'py> {
    let bytes = |key: &Secret| PyBytes::new(py, &key[..]);
    (bytes(&keys.send), bytes(&keys.receive))
}

/// Begins and opens handshakes of one static key.
#[pyclass(frozen, module = "tailnet_native")]
pub struct Handshakes(Arc<Own>);

#[pymethods]
impl Handshakes {
    #[new]
    fn new(private: &[u8], psk: &[u8]) -> PyResult<Self> {
        Ok(Self(Own::new(secret(private)?, secret(psk)?)))
    }

    fn begin(&self, remote: &[u8], ephemeral: &[u8], timestamp: &[u8]) -> PyResult<Initiator> {
        let stamp = timestamp
            .try_into()
            .map_err(|_| bad("a timestamp has 12 bytes"))?;
        handshake::Initiator::new(&self.0, &key(remote)?, secret(ephemeral)?, stamp)
            .map(Initiator)
            .map_err(refused)
    }

    fn read(&self, first: &[u8], ephemeral: &[u8]) -> PyResult<Responder> {
        handshake::Responder::new(&self.0, first, secret(ephemeral)?)
            .map(Responder)
            .map_err(refused)
    }
}

/// A handshake that waits for its answer.
#[pyclass(frozen, module = "tailnet_native")]
pub struct Initiator(handshake::Initiator);

#[pymethods]
impl Initiator {
    #[getter]
    fn first<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.first())
    }

    fn finish<'py>(&self, py: Python<'py>, second: &[u8]) -> PyResult<PyKeys<'py>> {
        self.0
            .finish(second)
            .map(|keys| pair(py, &keys))
            .map_err(refused)
    }
}

/// A handshake of a peer that can be answered.
#[pyclass(frozen, module = "tailnet_native")]
pub struct Responder(handshake::Responder);

#[pymethods]
impl Responder {
    #[getter]
    fn remote<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.remote())
    }

    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.timestamp())
    }

    fn answer<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyBytes>, PyKeys<'py>)> {
        let (second, keys) = self.0.answer().map_err(refused)?;
        Ok((PyBytes::new(py, &second), pair(py, &keys)))
    }
}
