//! The userspace stack as Python sees it: arguments are converted here and nothing else happens.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::netstack::{self, Limits};
use crate::sys::fd::take;

type Event<'py> = (u32, u64, String, String, Bound<'py, PyBytes>);

/// TCP/IP for a datapath whose TUN device is the other end of a packet socket.
#[pyclass(frozen, module = "tailnet_native")]
pub struct Netstack {
    inner: netstack::Netstack,
}

fn parse<T: std::str::FromStr>(text: &str) -> PyResult<T> {
    text.parse()
        .map_err(|_| PyValueError::new_err(format!("not an address: {text}")))
}

#[pymethods]
impl Netstack {
    #[new]
    #[pyo3(signature = (fd, *, mtu=1280, max_streams=8192, max_half_open=512))]
    fn new(fd: RawFd, mtu: usize, max_streams: usize, max_half_open: usize) -> PyResult<Self> {
        let packets = take(fd)?;
        if !(1280..=9000).contains(&mtu) {
            return Err(PyValueError::new_err("mtu must be 1280 to 9000"));
        }
        let limits = Limits {
            mtu,
            streams: max_streams,
            half_open: max_half_open,
        };
        Ok(Self {
            inner: netstack::Netstack::start(packets, limits)?,
        })
    }

    fn set_addresses(&self, addresses: Vec<String>) -> PyResult<()> {
        let parsed: PyResult<Vec<IpAddr>> = addresses.iter().map(|text| parse(text)).collect();
        self.inner.set_addresses(parsed?);
        Ok(())
    }

    fn dial(&self, local: &str, remote: &str) -> PyResult<u64> {
        let (local, remote) = (parse::<IpAddr>(local)?, parse::<SocketAddr>(remote)?);
        Ok(self.inner.dial(local, remote))
    }

    #[pyo3(signature = (stream, fd, early=None))]
    fn join(&self, stream: u64, fd: RawFd, early: Option<Vec<u8>>) -> PyResult<()> {
        self.inner
            .join(stream, take(fd)?, early.unwrap_or_default());
        Ok(())
    }

    fn abort(&self, stream: u64) {
        self.inner.abort(stream);
    }

    fn send_udp(&self, local: &str, remote: &str, data: Vec<u8>) -> PyResult<()> {
        self.inner.send_udp(parse(local)?, parse(remote)?, data);
        Ok(())
    }

    fn send_icmp(&self, local: &str, remote: &str, message: Vec<u8>) -> PyResult<()> {
        let (local, remote) = (parse(local)?, parse(remote)?);
        self.inner.send_icmp(local, remote, message);
        Ok(())
    }

    fn refuse_udp(&self, local: &str, remote: &str) -> PyResult<()> {
        self.inner.refuse_udp(parse(local)?, parse(remote)?);
        Ok(())
    }

    fn event_fd(&self) -> RawFd {
        self.inner.event_fd()
    }

    fn take_events<'py>(&self, py: Python<'py>, limit: usize) -> Vec<Event<'py>> {
        let events = self.inner.take_events(limit).into_iter();
        events
            .map(|event| {
                let (local, remote) = (event.local.to_string(), event.remote.to_string());
                let data = PyBytes::new(py, &event.data);
                (event.kind as u32, event.stream, local, remote, data)
            })
            .collect()
    }

    fn stats(&self) -> Vec<(&'static str, u64)> {
        let stats = self.inner.stats();
        vec![
            ("streams", stats.streams.load(Relaxed)),
            ("half_open", stats.half_open.load(Relaxed)),
            ("syn_dropped", stats.syn_dropped.load(Relaxed)),
            ("ignored", stats.ignored.load(Relaxed)),
            ("udp_dropped", stats.udp_dropped.load(Relaxed)),
            ("fragments_dropped", stats.fragments_dropped.load(Relaxed)),
        ]
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.inner.stop());
    }
}
