//! What Python sees: arguments are converted here and nothing else happens.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::clock::Clock;
use crate::datapath::crypto::aead::{Suite, Wanted};
use crate::datapath::crypto::mac1::Mac1;
use crate::datapath::crypto::session::Session;
use crate::datapath::filter::rules::Filter;
use crate::datapath::report::drops::NAMES;
use crate::datapath::report::upcalls::Upcall;
use crate::datapath::tables::masquerade::Masquerade;
use crate::datapath::tables::members::Entry;
use crate::datapath::tables::peer::{Activity, Path};
use crate::datapath::tables::prefixes::{Prefix, Prefixes};
use crate::datapath::tun::{Joined, Tun};
use crate::datapath::udp::{Sockets, UdpSocket};
use crate::datapath::wire::geneve::Way;
use crate::datapath::{self};
use crate::sys;
use crate::sys::socket::SockAddr;

#[pymodule(gil_used = true)]
mod tailnet_native {
    #[pymodule_export]
    use super::Datapath;

    #[pymodule_export]
    use super::choose_aead;

    #[pymodule_export]
    use crate::py_netstack::Netstack;

    #[pymodule_export]
    const INTERFACE: u32 = crate::INTERFACE;

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}

fn suite(aead: &str) -> PyResult<Suite> {
    let wanted = match aead {
        "auto" => Wanted::Auto,
        "ring" => Wanted::Ring,
        "ipsec-mb" => Wanted::IpsecMb,
        _ => return Err(bad("aead is auto, ring or ipsec-mb")),
    };
    Suite::choose(wanted).map_err(PyValueError::new_err)
}

/// The name of what seals and opens if this is wanted.
#[pyfunction]
fn choose_aead(aead: &str) -> PyResult<String> {
    Ok(suite(aead)?.name())
}

const PREFIX: usize = 18; // bytes: version, bits, address

/// Fds, IPv6 or not, UDP_SEGMENT works or not, equal groups need a sentinel or not.
type Ports = Vec<(RawFd, bool, bool, bool)>;

fn bad(what: &str) -> PyErr {
    PyValueError::new_err(what.to_owned())
}

fn prefixes(data: &[u8]) -> PyResult<Vec<Prefix>> {
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
type PeerEntry<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

fn entry((allowed, masquerade): &PeerEntry<'_>) -> PyResult<Entry> {
    let masquerade = Masquerade::new(&prefixes(masquerade.as_bytes())?);
    Ok(Entry {
        allowed: prefixes(allowed.as_bytes())?,
        masquerade: masquerade.ok_or_else(|| bad("addresses come in pairs of one family"))?,
    })
}

fn socket_addr(ip: &[u8], port: u16) -> PyResult<SocketAddr> {
    let ip = if let Ok(octets) = <[u8; 4]>::try_from(ip) {
        IpAddr::from(octets)
    } else if let Ok(octets) = <[u8; 16]>::try_from(ip) {
        IpAddr::from(octets)
    } else {
        return Err(bad("an address has 4 or 16 bytes"));
    };
    Ok(SocketAddr::new(ip, port))
}

fn key(data: &[u8]) -> PyResult<[u8; 32]> {
    data.try_into().map_err(|_| bad("a key has 32 bytes"))
}

/// Take all descriptors, even if one of them is bad.
fn take_ports(ports: Ports) -> PyResult<Sockets> {
    let taken: Vec<_> = ports
        .into_iter()
        .map(|(fd, v6, gso, sentinel)| Ok(UdpSocket::new(sys::fd::take(fd)?, v6, gso, sentinel)?))
        .collect();
    let taken = taken.into_iter().collect::<PyResult<Vec<_>>>()?;
    Ok(Sockets::of(taken))
}

/// The packet path; ``tailnet.agent.datapath.native`` makes it a ``Datapath``.
#[pyclass(frozen, module = "tailnet_native")]
pub struct Datapath {
    pub(crate) inner: Arc<datapath::Datapath>,
}

#[pymethods]
impl Datapath {
    #[new]
    #[pyo3(signature = (upcall_limit, manual_clock = false, aead = "auto"))]
    fn new(upcall_limit: usize, manual_clock: bool, aead: &str) -> PyResult<Self> {
        let suite = suite(aead)?;
        let clock = if manual_clock {
            Clock::manual()
        } else {
            Clock::System
        };
        let inner = datapath::Datapath::new(clock, upcall_limit, suite)?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Who seals and opens.
    #[getter]
    fn aead(&self) -> String {
        self.inner.tables.suite.name()
    }

    fn set_clock(&self, now: f64) {
        self.inner.tables.clock.set(now);
    }

    fn start(
        &self,
        py: Python<'_>,
        tun: (Vec<RawFd>, usize, bool, bool, bool),
        udp: Ports,
    ) -> PyResult<()> {
        let (fds, mtu, vnet_hdr, uso, tso) = tun;
        let sockets = take_ports(udp);
        let joined = Joined { tcp: tso, udp: uso };
        let fds: Vec<_> = fds.into_iter().map(sys::fd::take).collect(); // all, even if one is bad
        let fds = fds.into_iter().collect::<std::io::Result<Vec<_>>>()?;
        let tun = Tun::new(fds, mtu, vnet_hdr, joined)?;
        let sockets = sockets?;
        py.detach(|| self.inner.start(tun, sockets))
            .map_err(|error| PyOSError::new_err(error.to_string()))
    }

    fn set_service(&self, fd: RawFd) -> PyResult<()> {
        let socket = Arc::new(sys::fd::take(fd)?);
        self.inner.tables.service.store(Some(socket));
        Ok(())
    }

    fn set_sites(&self, py: Python<'_>, fd: Option<RawFd>) -> PyResult<()> {
        let socket = fd.map(sys::fd::take).transpose()?;
        py.detach(|| self.inner.set_sites(socket))?;
        Ok(())
    }

    fn set_tap(&self, fd: Option<RawFd>) -> PyResult<()> {
        let socket = fd.map(sys::fd::take).transpose()?;
        self.inner.tables.tap.set(socket);
        Ok(())
    }

    fn set_udp(&self, py: Python<'_>, udp: Ports) -> PyResult<()> {
        let sockets = take_ports(udp)?;
        py.detach(|| self.inner.set_sockets(sockets));
        Ok(())
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.inner.stop());
    }

    fn event_fd(&self) -> RawFd {
        self.inner.tables.upcalls.event.raw()
    }

    fn take_upcalls<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Bound<'py, PyList>> {
        let taken = self.inner.tables.upcalls.take(limit);
        let tuples: PyResult<Vec<_>> = taken.into_iter().map(|u| tuple(py, u)).collect();
        PyList::new(py, tuples?)
    }

    fn set_peers(&self, py: Python<'_>, peers: Vec<(u64, PeerEntry<'_>)>) -> PyResult<()> {
        let entries: PyResult<Vec<_>> = peers
            .iter()
            .map(|(id, fields)| Ok((*id, entry(fields)?)))
            .collect();
        let entries = entries?;
        py.detach(|| self.inner.with_tables(|tables| tables.set_peers(&entries)));
        Ok(())
    }

    fn change_peers(
        &self,
        py: Python<'_>,
        peers: Vec<(u64, Option<PeerEntry<'_>>)>,
    ) -> PyResult<()> {
        let entries: PyResult<Vec<_>> = peers
            .iter()
            .map(|(id, fields)| Ok((*id, fields.as_ref().map(entry).transpose()?)))
            .collect();
        let entries = entries?;
        py.detach(|| {
            self.inner
                .with_tables(|tables| tables.change_peers(&entries));
        });
        Ok(())
    }

    fn set_local(&self, data: &[u8]) -> PyResult<()> {
        let entries = prefixes(data)?;
        if entries.is_empty() {
            self.inner.with_tables(|tables| tables.forget_flows());
        }
        let mut local = Prefixes::default();
        for prefix in entries {
            local.insert(prefix, ());
        }
        let local = Arc::new(local);
        self.inner.set_policy(|policy| policy.local = local);
        Ok(())
    }

    fn set_filter(&self, rules: &[u8], shields_up: bool) -> PyResult<()> {
        let filter = Filter::parse(rules).ok_or_else(|| bad("malformed rules"))?;
        let filter = Arc::new(filter);
        self.inner.set_policy(|policy| {
            policy.filter = filter;
            policy.shields_up = shields_up;
        });
        Ok(())
    }

    fn set_public_key(&self, public: Option<&[u8]>) -> PyResult<()> {
        let mac1 = public
            .map(key)
            .transpose()?
            .map(|key| Arc::new(Mac1::new(&key)));
        self.inner.tables.mac1.store(mac1);
        Ok(())
    }

    fn set_path(
        &self,
        peer: u64,
        ip: Option<&[u8]>,
        port: u16,
        vni: u32,
        relay: bool,
    ) -> PyResult<()> {
        let udp = ip.map(|ip| socket_addr(ip, port)).transpose()?;
        let path = Path {
            udp: udp.map(|addr| (Way { addr, vni }, SockAddr::new(addr))),
            relay,
            ..Path::default()
        };
        self.inner.with_tables(|tables| tables.set_path(peer, path));
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // the fields of a session
    fn set_session(
        &self,
        py: Python<'_>,
        peer: u64,
        local_index: u32,
        remote_index: u32,
        send_key: &[u8],
        receive_key: &[u8],
        created: f64,
        initiator: bool,
    ) -> PyResult<()> {
        let session = Session {
            local: local_index,
            remote: remote_index,
            send_key: key(send_key)?,
            receive_key: key(receive_key)?,
            created,
            initiator,
        };
        py.detach(|| self.inner.set_session(peer, &session));
        Ok(())
    }

    fn drop_session(&self, local_index: u32) {
        self.inner
            .with_tables(|tables| tables.drop_session(local_index));
    }

    fn discard_queue(&self, peer: u64) {
        self.inner.discard_queue(peer);
    }

    fn send_keepalive(&self, py: Python<'_>, peer: u64) {
        py.detach(|| self.inner.send_keepalive(peer));
    }

    fn set_wake(&self, peer: u64, wake: u8) {
        if let Some(peer) = self.inner.tables.peer(peer) {
            peer.wake
                .fetch_or(wake, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn send_udp(
        &self,
        py: Python<'_>,
        ip: &[u8],
        port: u16,
        datagrams: Vec<Bound<'_, PyBytes>>,
    ) -> PyResult<i32> {
        let dst = socket_addr(ip, port)?;
        let data: Vec<&[u8]> = datagrams.iter().map(|d| d.as_bytes()).collect();
        Ok(py.detach(|| self.inner.send_udp(dst, &data)))
    }

    fn relay_in(&self, py: Python<'_>, datagrams: Vec<Bound<'_, PyBytes>>) {
        let data: Vec<&[u8]> = datagrams.iter().map(|d| d.as_bytes()).collect();
        py.detach(|| self.inner.relay_in(&data));
    }

    fn send_plain(&self, py: Python<'_>, peer: u64, packets: Vec<Bound<'_, PyBytes>>) {
        let data: Vec<&[u8]> = packets.iter().map(|d| d.as_bytes()).collect();
        py.detach(|| self.inner.send_plain(peer, &data));
    }

    fn activity(&self, peer: u64) -> Option<Activity> {
        self.inner.tables.peer(peer).map(|peer| peer.activity())
    }

    fn drops(&self) -> Vec<(&'static str, u64)> {
        let counts = self.inner.tables.drops.snapshot();
        NAMES.iter().copied().zip(counts).collect()
    }

    fn traffic(&self) -> Vec<(&'static str, u64, u64, u64, u64)> {
        self.inner.tables.traffic.snapshot()
    }
}

/// The name of the upcall, then its fields; a source is (packed address, port), and then perhaps the
/// number of a relay's session.
fn tuple<'py>(py: Python<'py>, upcall: Upcall) -> PyResult<Bound<'py, PyTuple>> {
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
