//! How long a connection waits for the other side.

use smoltcp::socket::tcp::State;
use smoltcp::time::{Duration, Instant};

use super::{Conn, haste};

pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(20);
const ACCEPT_PATIENCE: Duration = Duration::from_secs(30);
const UNANSWERED: Duration = Duration::from_secs(120); // data or FIN without an acknowledgement
const HALF_CLOSED: Duration = Duration::from_secs(600); // we have ended, the peer says nothing
const IDLE: Duration = Duration::from_secs(7200); // then keepalives begin, as Linux does
const KEEPALIVE: Duration = Duration::from_secs(75);
const KEEPALIVES: Duration = Duration::from_secs(75 * 9);

impl Conn {
    /// When to give up, or to ask whether the peer is still there.
    pub(super) fn patience(&mut self) -> Instant {
        let state = self.socket().state();
        let queued = self.socket().send_queue() > 0;
        let waits = match state {
            State::SynSent => return self.heard + CONNECT_PATIENCE,
            State::Listen | State::SynReceived => return self.heard + ACCEPT_PATIENCE,
            State::FinWait2 => HALF_CLOSED,
            State::FinWait1 | State::LastAck | State::Closing => UNANSWERED,
            _ if queued => UNANSWERED,
            _ if self.keepalive => return self.heard + IDLE + KEEPALIVES,
            _ => return self.heard + IDLE,
        };
        self.waiting_since
            .map_or(self.heard + IDLE, |since| since + waits)
    }

    /// Abort or send keepalives if it is time; true if that has to be sent.
    pub(super) fn lose_patience(&mut self, now: Instant) -> bool {
        let state = self.socket().state();
        if state == State::Closed {
            return false;
        }
        let queued = self.socket().send_queue() > 0;
        if queued || !matches!(state, State::Established | State::CloseWait) {
            self.waiting_since.get_or_insert(now);
        } else {
            self.waiting_since = None;
        }
        if now < self.patience() {
            return false;
        }
        let idle = self.waiting_since.is_none() && !self.keepalive && self.established;
        if idle {
            self.keepalive = true;
            self.socket().set_keep_alive(Some(haste::span(KEEPALIVE)));
        } else {
            self.socket().abort();
        }
        true
    }
}
