//! The packet path as Python sees it.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::convert::{PeerEntry, Ports, bad, entry, key, prefixes, socket_addr, take_ports};
use super::upcalls::tuple;
use crate::clock::Clock;
use crate::datapath::crypto::aead::{Suite, Wanted};
use crate::datapath::crypto::mac1::Mac1;
use crate::datapath::filter::rules::Filter;
use crate::datapath::report::drops::NAMES;
use crate::datapath::tables::peer::{Activity, Path};
use crate::datapath::tables::prefixes::Prefixes;
use crate::datapath::tables::session::Session;
use crate::datapath::tun::{Joined, Tun};
use crate::datapath::wire::geneve::Way;
use crate::datapath::{self};
use crate::sys;
use crate::sys::socket::SockAddr;

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
pub fn choose_aead(aead: &str) -> PyResult<String> {
    Ok(suite(aead)?.name())
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
        let nowhere = entries.is_empty();
        let mut local = Prefixes::default();
        for prefix in entries {
            local.insert(prefix, ());
        }
        let local = Arc::new(local);
        self.inner.set_policy(|policy| policy.local = local);
        if nowhere {
            // Last: a packet that the old policy let leave would be remembered again.
            self.inner.with_tables(|tables| tables.forget_flows());
        }
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
