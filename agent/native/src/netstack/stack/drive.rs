//! What has something to do, and when.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use smoltcp::time::{Duration, Instant};

use super::super::conn::Next;
use super::super::events::EventKind;
use super::Stack;

const LONGEST: Duration = Duration::from_secs(3600);

impl Stack {
    pub(super) fn activate(&mut self, id: u64) {
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.queued
        {
            conn.queued = true;
            self.active.push(id);
        }
    }

    /// Drive what has something to do; when to come back, `None` for "at once".
    pub fn run(&mut self, now: Instant, packets: BorrowedFd<'_>) -> Result<Option<Instant>, Errno> {
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.timer = None;
            }
            self.activate(id);
        }
        let mut free = self.outbox.flush(packets)?;
        if free {
            for id in std::mem::take(&mut self.blocked) {
                self.activate(id);
            }
        }
        for id in std::mem::take(&mut self.active) {
            self.drive(id, now);
            if self.outbox.full() {
                free = self.outbox.flush(packets)?;
            }
        }
        if free {
            free = self.outbox.flush(packets)?;
        }
        if !self.active.is_empty() || (free && !self.blocked.is_empty()) {
            return Ok(None);
        }
        Ok(Some(
            self.timers.first().map_or(now + LONGEST, |&(at, _)| at),
        ))
    }

    fn drive(&mut self, id: u64, now: Instant) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.queued = false;
        let before = conn.established;
        let next = conn.drive(now, &mut self.outbox);
        if conn.established && !before {
            let (dialled, local, remote) = (conn.dialled, conn.local, conn.remote);
            if dialled {
                self.tell(EventKind::Connected, id, local, remote, b"");
            } else {
                self.half_open.remove(id);
                self.count();
            }
        }
        match next {
            Next::Wait(at) => self.arm(id, at),
            Next::Again => self.activate(id),
            Next::Blocked => self.blocked.push(id),
            Next::Over(why) => self.remove(id, why),
        }
    }

    fn arm(&mut self, id: u64, at: Instant) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match conn.timer {
            Some(earlier) if earlier <= at => return, // it will look again
            Some(later) => {
                self.timers.remove(&(later, id));
            }
            None => {}
        }
        conn.timer = Some(at);
        self.timers.insert((at, id));
    }
}
