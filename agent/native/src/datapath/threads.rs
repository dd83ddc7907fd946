//! The threads that move packets: one for each queue of the TUN device, one for the sockets.  None
//! ever waits for Python.

use std::io::ErrorKind;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::datapath::control::Control;
use crate::datapath::inbound::Inbound;
use crate::datapath::outbound::Outbound;
use crate::datapath::outbound::judge::TOGETHER;
use crate::datapath::pace::Pace;
use crate::datapath::report::drops::Reason;
use crate::datapath::report::upcalls::Upcall;
use crate::datapath::tables::Tables;
use crate::datapath::tun::{READ, Tun, TunWriter};
use crate::sys;
use crate::sys::event;
use crate::sys::socket::{RECEIVE_MAX, Receiver};

const SMALL: usize = 2112; // bytes of packets that are read together; their places meet in few sets of the cache
const TUN_READS: usize = 128; // before what they brought is sent
const BULK: usize = 64 << 10; // bytes of one read of a socket from which the next one is shorter
const BULK_MESSAGES: usize = 4; // that together stay in the processor's cache

/// Errors of the network that a UDP socket reports on reading; the socket itself is well.
const PASSING: &[i32] = &[
    libc::ECONNREFUSED,
    libc::ECONNRESET,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
    libc::EMSGSIZE,
    libc::ENOBUFS,
    libc::ENOMEM,
    libc::EINTR,
];

/// Run `body`, and report if it fails or panics.
pub fn guarded(tables: &Tables, control: &Control, body: impl FnOnce() -> Result<(), String>) {
    sys::block_signals();
    sys::sharpen_timers();
    let reason = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return,
        Ok(Err(reason)) => reason,
        Err(_) => "a packet thread panicked; please report this".to_owned(),
    };
    if control.end() {
        tables.upcalls.put(Upcall::Failed(reason));
    }
}

/// One queue of the TUN device → UDP, until told to stop.
///
/// # Errors
/// Why the device died.
pub fn run_outbound(
    tables: &Arc<Tables>,
    control: &Control,
    tun: &Tun,
    queue: usize,
) -> Result<(), String> {
    let mut outbound = Outbound::new(Arc::clone(tables), Some(Arc::clone(&control.stop)));
    outbound.mtu = tun.mtu;
    let mut buffer = vec![0; TOGETHER * SMALL + READ];
    let mut reads: Vec<Range<usize>> = Vec::with_capacity(TOGETHER);
    let mut pace = Pace::default();
    while !control.ended() {
        let now = tables.clock.now();
        let mut idle = false;
        for _ in 0..TUN_READS {
            let at = reads.len() * SMALL;
            match tun.read(queue, &mut buffer[at..at + READ]) {
                Ok(0) => return Err("the TUN device is gone".to_owned()),
                Ok(size) => {
                    pace.note(size);
                    reads.push(at..at + size);
                    if size > SMALL || reads.len() == TOGETHER {
                        outbound.read_all(&mut buffer, &reads, tun.vnet_hdr, now);
                        reads.clear();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    idle = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("reading the TUN device: {error}")),
            }
            if outbound.full() {
                break;
            }
        }
        outbound.read_all(&mut buffer, &reads, tun.vnet_hdr, now);
        reads.clear();
        outbound.transmit();
        let (writer, drops) = (Some(tun), &tables.drops);
        outbound
            .replies
            .write(&mut TunWriter { tun: writer, drops }, tun.vnet_hdr);
        if idle && !pace.pause() {
            event::wait(&[tun.fd(queue), control.stop.as_fd()], false, -1);
        }
    }
    Ok(())
}

/// UDP → TUN, until told to stop.
///
/// # Errors
/// Why a socket died.
pub fn run_inbound(tables: &Arc<Tables>, control: &Control, tun: &Tun) -> Result<(), String> {
    let mut inbound = Inbound::new(Arc::clone(tables), tun.vnet_hdr, tun.joined);
    inbound.mtu = tun.mtu;
    let mut outbound = Outbound::new(Arc::clone(tables), Some(Arc::clone(&control.stop)));
    outbound.mtu = tun.mtu;
    let mut receiver = Receiver::default();
    let mut limit = RECEIVE_MAX;
    while !control.ended() {
        control.rebound.clear();
        let sockets = tables.sockets.load_full();
        let both = [sockets.v4.as_ref(), sockets.v6.as_ref()];
        let mut idle = true;
        for socket in both.into_iter().flatten() {
            match receiver.receive(socket.fd.as_fd(), limit) {
                Ok(()) => {}
                Err(libc::EAGAIN) => continue,
                Err(errno) if PASSING.contains(&errno) => {
                    tables.drops.add(Reason::UdpRead, 1);
                    idle = false;
                    continue;
                }
                Err(errno) => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    return Err(format!("reading a UDP socket: {error}"));
                }
            }
            idle = false;
            let now = tables.clock.now();
            inbound.begin();
            let mut total = 0;
            for message in &receiver.messages {
                if message.len == 0 {
                    tables.drops.add(Reason::InUnknown, 1);
                }
                total += message.len;
            }
            inbound.receive_all(&mut receiver.data, &receiver.messages, now);
            limit = if total >= BULK {
                BULK_MESSAGES
            } else {
                RECEIVE_MAX
            };
            let (tun, drops) = (Some(tun), &tables.drops);
            let vnet_hdr = tun.is_some_and(|tun| tun.vnet_hdr);
            let mut writer = TunWriter { tun, drops };
            inbound.write(&mut receiver.data, &mut writer);
            for peer in inbound.confirmed.drain(..) {
                outbound.flush(&peer, now);
            }
            inbound.replies.write(&mut writer, vnet_hdr);
            outbound.refuse(&mut inbound.replies, now);
        }
        if idle {
            let mut fds: Vec<BorrowedFd<'_>> = Vec::with_capacity(4);
            fds.extend(both.into_iter().flatten().map(|socket| socket.fd.as_fd()));
            fds.extend([control.stop.as_fd(), control.rebound.as_fd()]);
            event::wait(&fds, false, -1);
        }
    }
    Ok(())
}
