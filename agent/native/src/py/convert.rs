//! Python's values as the crate has them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::datapath::tables::masquerade::Masquerade;
use crate::datapath::tables::members::Entry;
use crate::datapath::tables::prefixes::Prefix;
use crate::datapath::udp::{Sockets, UdpSocket};
use crate::sys;

const PREFIX: usize = 18; // bytes: version, bits, address

/// Fds, IPv6 or not, UDP_SEGMENT works or not, equal groups need a sentinel or not.
pub type Ports = Vec<(RawFd, bool, bool, bool)>;

pub fn bad(what: &str) -> PyErr {
    PyValueError::new_err(what.to_owned())
}

pub fn prefixes(data: &[u8]) -> PyResult<Vec<Prefix>> {
    let (entries, rest) = data.as_chunks::<PREFIX>();
    if !rest.is_empty() {
        return Err(bad("prefixes have 18 bytes each"));
    }
    let parse = |entry: &[u8; PREFIX]| {
        let [version, bits, address @ ..] = *entry;
        Prefix {
            version,
            bits,
            address: u128::from_be_bytes(address),
        }
    };
    Ok(entries.iter().map(parse).collect())
}

/// Allowed prefixes; in turn an address of ours and what the peer calls it.
pub type PeerEntry<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

pub fn entry((allowed, masquerade): &PeerEntry<'_>) -> PyResult<Entry> {
    let masquerade = Masquerade::new(&prefixes(masquerade.as_bytes())?);
    Ok(Entry {
        allowed: prefixes(allowed.as_bytes())?,
        masquerade: masquerade.ok_or_else(|| bad("addresses come in pairs of one family"))?,
    })
}

pub fn socket_addr(ip: &[u8], port: u16) -> PyResult<SocketAddr> {
    let ip = if let Ok(octets) = <[u8; 4]>::try_from(ip) {
        IpAddr::from(octets)
    } else if let Ok(octets) = <[u8; 16]>::try_from(ip) {
        IpAddr::from(octets)
    } else {
        return Err(bad("an address has 4 or 16 bytes"));
    };
    Ok(SocketAddr::new(ip, port))
}

pub fn key(data: &[u8]) -> PyResult<[u8; 32]> {
    data.try_into().map_err(|_| bad("a key has 32 bytes"))
}

/// Take all descriptors, even if one of them is bad.
pub fn take_ports(ports: Ports) -> PyResult<Sockets> {
    let taken: Vec<_> = ports
        .into_iter()
        .map(|(fd, v6, gso, sentinel)| Ok(UdpSocket::new(sys::fd::take(fd)?, v6, gso, sentinel)?))
        .collect();
    let taken = taken.into_iter().collect::<PyResult<Vec<_>>>()?;
    Ok(Sockets::of(taken))
}
