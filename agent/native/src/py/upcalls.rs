//! What the packet path tells, as Python's tuples.

use std::net::{IpAddr, SocketAddr};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::datapath::report::upcalls::Upcall;
use crate::datapath::wire::geneve::Way;

/// The name of the upcall, then its fields; a source is (packed address, port), and then perhaps the
/// number of a relay's session.
pub fn tuple<'py>(py: Python<'py>, upcall: Upcall) -> PyResult<Bound<'py, PyTuple>> {
    let bytes = |data: &[u8]| PyBytes::new(py, data);
    let addr = |src: SocketAddr| match src.ip() {
        IpAddr::V4(ip) => (bytes(&ip.octets()), src.port()),
        IpAddr::V6(ip) => (bytes(&ip.octets()), src.port()),
    };
    let way = |way: Way| {
        let (ip, port) = addr(way.addr);
        (ip, port, way.vni)
    };
    match upcall {
        Upcall::NoSession(peer) => ("NoSession", peer).into_pyobject(py),
        Upcall::Handshake(src, data) => ("Handshake", way(src), bytes(&data)).into_pyobject(py),
        Upcall::Disco(src, data) => ("Disco", way(src), bytes(&data)).into_pyobject(py),
        Upcall::Stun(src, data) => ("Stun", addr(src), bytes(&data)).into_pyobject(py),
        Upcall::RelayOut(peer, data) => {
            let datagrams = PyList::new(py, data.iter().map(|d| bytes(d)))?;
            ("RelayOut", peer, datagrams).into_pyobject(py)
        }
        Upcall::Confirmed(peer, index) => ("Confirmed", peer, index).into_pyobject(py),
        Upcall::Woke(peer, wake) => ("Woke", peer, wake).into_pyobject(py),
        Upcall::NewSource(peer, src) => ("NewSource", peer, addr(src)).into_pyobject(py),
        Upcall::PathFailed(peer, dst, errno) => {
            ("PathFailed", peer, way(dst), errno).into_pyobject(py)
        }
        Upcall::ToAgent(peer, data) => ("ToAgent", peer, bytes(&data)).into_pyobject(py),
        Upcall::Failed(reason) => ("Failed", reason).into_pyobject(py),
    }
}
