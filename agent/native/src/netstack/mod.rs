//! TCP/IP without the kernel's help: what `--tun=userspace-networking` puts in place of a TUN device.
//!
//! One thread owns one end of a packet socket pair; the datapath has the other end and takes it for
//! a TUN device with virtio-net headers, so packets never pass Python:
//!
//! ```text
//! datapath ═ SEQPACKET pair ═ thread ─┬ one smoltcp interface and TCP socket per connection
//!                                     ├ a responder: RST for what nobody listens to
//!                                     ├ ICMP: echoes, errors that end a dial
//!                                     └ UDP, pings to others: to and from Python as events
//! connection ═ any stream socket of Python's (a proxy's client, a local server, a socket pair)
//! ```
//!
//! smoltcp looks at every socket of an interface for every packet, so each connection gets an
//! interface of its own: a packet finds it by hash, and a thousand idle ones cost nothing.

mod checksum;
mod conn;
mod device;
mod events;
pub mod icmp;
pub mod ingress;
pub mod ip;
mod outbox;
mod reassembly;
mod responder;
pub mod stack;
mod stats;
mod thread;
mod udp;

pub use events::{Event, EventKind, Events};
pub use smoltcp::time; // what a stack is told the time in
pub use stats::{Limits, Stats};
pub use thread::Netstack;

#[cfg(test)]
mod tests;
