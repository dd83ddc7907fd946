//! What smoltcp takes for a network card: one packet in at most, the outbox out.

use std::net::IpAddr;

use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::outbox::Outbox;

/// smoltcp's device: one packet in at most, the outbox out.
pub struct Port<'a> {
    /// The packet to be processed.
    pub packet: Option<&'a [u8]>,
    /// Where answers go.
    pub outbox: &'a mut Outbox,
    /// Bytes of one packet.
    pub mtu: usize,
}

/// Gives the packet.
pub struct Rx<'a>(&'a [u8]);

/// Takes one packet.
pub struct Tx<'a>(&'a mut Outbox);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.0.push(len, f)
    }
}

impl Device for Port<'_> {
    type RxToken<'b>
        = Rx<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let packet = self.packet.take()?;
        Some((Rx(packet), Tx(self.outbox)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        if self.outbox.full() {
            None
        } else {
            Some(Tx(self.outbox))
        }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = self.mtu;
        // Checked before a packet gets here, filled in when it leaves.
        caps.checksum.tcp = Checksum::None;
        caps
    }
}

/// An interface with this address.
pub fn interface(addresses: &[IpAddr], mtu: usize, seed: u64, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut outbox = Outbox::default();
    let mut device = Port {
        packet: None,
        outbox: &mut outbox,
        mtu,
    };
    let mut iface = Interface::new(config, &mut device, now);
    iface.update_ip_addrs(|list| {
        for address in addresses {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            if list
                .push(IpCidr::new(IpAddress::from(*address), bits))
                .is_err()
            {
                break; // more than a node has
            }
        }
    });
    iface
}
