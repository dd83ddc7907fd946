//! Packets between the operating system and the daemon's own services, at addresses of no peer.
//!
//! They go to and come from a packet socket, as reads of the TUN device with virtio-net headers:
//! the other end belongs to a stack.
//!
//! Source: tailscale net/tsaddr/tsaddr.go, TailscaleServiceIPString; net/tstun/wrap.go.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::datapath::control::Control;
use crate::datapath::offload::group::Writer;
use crate::datapath::offload::split::split;
use crate::datapath::report::tap::Direction;
use crate::datapath::tables::Tables;
use crate::datapath::tun::{READ, Tun, TunWriter};
use crate::datapath::wire::vnet;
use crate::sys::event;

/// 100.100.100.100.
pub const SERVICE_V4: u128 = 0x6464_6464;
/// fd7a:115c:a1e0::53.
pub const SERVICE_V6: u128 = 0xfd7a_115c_a1e0_0000_0000_0000_0000_0053;

/// True for an address that no peer may have.
pub fn is_service(version: u8, address: u128) -> bool {
    address == if version == 4 { SERVICE_V4 } else { SERVICE_V6 }
}

/// Hand over a read of the TUN device.  False if nobody takes it, or not fast enough.
pub fn hand_over(to: Option<&Arc<OwnedFd>>, read: &[u8], vnet_hdr: bool) -> bool {
    let Some(to) = to else { return false };
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if vnet_hdr {
        return send(to, read, flags).is_ok();
    }
    let mut with_header = vec![0; vnet::LEN];
    with_header.extend_from_slice(read);
    send(to, &with_header, flags).is_ok()
}

/// Services → TUN, until told to stop.
///
/// # Errors
/// None: services that end are nothing that packets of peers should suffer from.
pub fn run_service(tables: &Arc<Tables>, control: &Control, tun: &Tun) -> Result<(), String> {
    let mut buffer = vec![0; READ];
    while !control.ended() {
        let Some(socket) = tables.service.load_full() else {
            break;
        };
        match recv(&socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => break,
            Ok((size, _)) => answer(tables, tun, &mut buffer[..size]),
            Err(Errno::AGAIN) => event::wait(&[socket.as_fd(), control.stop.as_fd()], false, -1),
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

fn answer(tables: &Tables, tun: &Tun, data: &mut [u8]) {
    let drops = &tables.drops;
    let mut writer = TunWriter {
        tun: Some(tun),
        drops,
    };
    if tables.tap.on()
        && let Some(packet) = data.get(vnet::LEN..)
    {
        tables.tap.put(drops, Direction::In, None, None, packet);
    }
    if tun.vnet_hdr {
        if writer.write(&[IoSlice::new(data)]).is_err() {
            writer.lost(1);
        }
        return;
    }
    let hint = vnet::Header::parse(data);
    let packet = data.get_mut(vnet::LEN..).unwrap_or_default();
    let Some(cut) = hint.and_then(|hint| split(&hint, packet)) else {
        return writer.lost(1);
    };
    for index in 0..cut.count() {
        let mut one = vec![0; cut.len(index)];
        cut.write(index, &mut one);
        if writer.write(&[IoSlice::new(&one)]).is_err() {
            writer.lost(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn the_addresses_are_upstreams() {
        let v4 = u32::from(Ipv4Addr::new(100, 100, 100, 100));
        let v6: Ipv6Addr = "fd7a:115c:a1e0::53".parse().unwrap();
        assert!(is_service(4, v4.into()) && is_service(6, v6.into()));
        assert!(!is_service(6, v4.into()) && !is_service(4, u128::from(v4) + 1));
    }
}
