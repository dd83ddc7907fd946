//! Packets between peers and sites: IPv4 networks that peers know by IPv6 addresses (4via6).
//!
//! The host's kernel cannot translate them, so they go to a packet socket, whose other end belongs
//! to a stack that ends their connections and makes others by IPv4.  What the stack says leaves as
//! if the host had sent it.
//!
//! Source: tailscale net/tsaddr/tsaddr.go, TailscaleViaRange; wgengine/netstack/netstack.go,
//! shouldProcessInbound.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, sendmsg, shutdown};

use crate::datapath::control::Control;
use crate::datapath::offload::group::Writer;
use crate::datapath::offload::split::split;
use crate::datapath::outbound::Outbound;
use crate::datapath::tables::Tables;
use crate::datapath::tun::{READ, Tun};
use crate::datapath::wire::vnet;
use crate::sys::event;

/// fd7a:115c:a1e0:b1a::/64; a site and an IPv4 address follow.
const VIA: [u8; 8] = [0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, 0x0b, 0x1a];
const READS: usize = 64; // before what they brought is sent

/// True for an IP packet to a site.
fn is_for_site(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 6) && packet.get(24..32) == Some(&VIA)
}

/// Tell who reads that there is nothing more, and let go.
pub fn retire(sites: &OwnedFd) {
    let _ = shutdown(sites, Shutdown::Both); // it may have ended by itself
}

/// Packets for sites to their socket, all others to the host.
pub struct Sorter<'a, W> {
    /// Where there is a socket.
    pub sites: Option<&'a OwnedFd>,
    /// The host.
    pub host: &'a mut W,
    /// The host's packets have a virtio-net header.
    pub vnet_hdr: bool,
}

impl<W: Writer> Writer for Sorter<'_, W> {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<(), i32> {
        let Some(sites) = self.sites else {
            return self.host.write(parts);
        };
        let first: &[u8] = parts.first().map_or(&[], |part| part);
        let start = if self.vnet_hdr { vnet::LEN } else { 0 };
        if !is_for_site(first.get(start..).unwrap_or_default()) {
            return self.host.write(parts);
        }
        if !self.vnet_hdr {
            return put(sites, &[IoSlice::new(&[0; vnet::LEN]), parts[0]]);
        }
        match vnet::Header::parse(first) {
            Some(hint) if hint.gso_type == vnet::GSO_UDP => singly(sites, &hint, parts),
            _ => put(sites, parts),
        }
    }

    fn lost(&mut self, count: usize) {
        self.host.lost(count);
    }
}

/// The stack takes no joined datagrams.
fn singly(sites: &OwnedFd, hint: &vnet::Header, parts: &[IoSlice<'_>]) -> Result<(), i32> {
    let mut packet: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
    let cut = split(hint, packet.get_mut(vnet::LEN..).unwrap_or_default()).ok_or(libc::EINVAL)?;
    for index in 0..cut.count() {
        let mut one = vec![0; vnet::LEN + cut.len(index)];
        cut.write(index, &mut one[vnet::LEN..]);
        put(sites, &[IoSlice::new(&one)])?;
    }
    Ok(())
}

fn put(sites: &OwnedFd, parts: &[IoSlice<'_>]) -> Result<(), i32> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(sites, parts, &mut SendAncillaryBuffer::default(), flags)
        .map(drop)
        .map_err(Errno::raw_os_error)
}

/// Answers to what the stack sends to nobody.
struct Back<'a>(&'a OwnedFd);

impl Writer for Back<'_> {
    fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<(), i32> {
        put(self.0, parts)
    }

    fn lost(&mut self, _: usize) {} // the stack does without
}

/// Stack → peers, until the socket is retired or all is told to stop.
///
/// # Errors
/// None: a stack that ends is nothing that other packets should suffer from.
pub fn run_sites(
    tables: &Arc<Tables>,
    control: &Control,
    tun: &Tun,
    sites: &OwnedFd,
) -> Result<(), String> {
    let mut outbound = Outbound::new(Arc::clone(tables), Some(Arc::clone(&control.stop)));
    outbound.mtu = tun.mtu;
    let mut buffer = vec![0; READ];
    while !control.ended() {
        let now = tables.clock.now();
        let mut idle = false;
        for _ in 0..READS {
            match recv(sites, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Ok(()),
                Ok((size, _)) => outbound.read(&mut buffer[..size], true, now),
                Err(Errno::AGAIN) => {
                    idle = true;
                    break;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Ok(()),
            }
            if outbound.full() {
                break;
            }
        }
        outbound.transmit();
        outbound.replies.write(&mut Back(sites), true);
        if idle {
            event::wait(&[sites.as_fd(), control.stop.as_fd()], false, -1);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_for_site;

    #[test]
    fn a_site_is_told_by_its_range() {
        let mut packet = [0; 40];
        packet[0] = 0x60;
        packet[24..32].copy_from_slice(&super::VIA);
        assert!(is_for_site(&packet));
        assert!(!is_for_site(&packet[..31]));
        packet[31] ^= 1;
        assert!(!is_for_site(&packet));
        packet[31] ^= 1;
        packet[0] = 0x40;
        assert!(!is_for_site(&packet) && !is_for_site(&[]));
    }
}
