//! A look at the packets: copies of all of them to a packet socket, while somebody wants them.
//!
//! One record is one message, integers little-endian; `tailnet.agent.datapath.tap` reads them:
//!
//! ```text
//! 0           1          2        8      16       24
//! direction | dropped  | zero   | peer | time   | IP packet …
//! 0 in, 1 out | 0 no, or 1 + the drop counter's number | all ones: none | ns since 1970
//! ```

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::datapath::report::drops::{Drops, Reason};
use crate::datapath::wire::packet::ip_length;

/// Bytes in front of the packet.
pub const RECORD: usize = 24;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the operating system.
    In,
    /// From it.
    Out,
}

/// Where copies go, if anywhere.
#[derive(Default)]
pub struct Tap {
    on: AtomicBool,
    socket: ArcSwapOption<OwnedFd>,
}

impl Tap {
    /// Begin, change or end.
    pub fn set(&self, socket: Option<OwnedFd>) {
        self.on.store(socket.is_some(), Ordering::Relaxed);
        self.socket.store(socket.map(Arc::new));
    }

    /// True if somebody wants copies; all that a packet pays when nobody does.
    pub fn on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Give a copy, or count that it was not taken in time.  Never waits.
    pub fn put(
        &self,
        drops: &Drops,
        direction: Direction,
        dropped: Option<Reason>,
        peer: Option<u64>,
        data: &[u8],
    ) {
        let Some(socket) = self.socket.load_full() else {
            return;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut head = [0; RECORD];
        head[0] = direction as u8;
        head[1] = dropped.map_or(0, |reason| reason as u8 + 1);
        head[8..16].copy_from_slice(&peer.unwrap_or(u64::MAX).to_le_bytes());
        head[16..].copy_from_slice(&now.map_or(0, |t| t.as_nanos() as u64).to_le_bytes());
        let parts = [IoSlice::new(&head), IoSlice::new(&data[..ip_length(data)])];
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if sendmsg(&*socket, &parts, &mut SendAncillaryBuffer::default(), flags).is_err() {
            drops.add(Reason::Capture, 1);
        }
    }
}
