//! Bytes between a connection's stream and smoltcp's buffers.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use smoltcp::socket::tcp::Socket;

use super::Conn;

impl Conn {
    /// Stream → send buffer.
    pub(super) fn fill(&mut self) -> bool {
        let Some(stream) = &self.stream else {
            return false;
        };
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        let mut moved = false;
        while !self.local_ended && socket.can_send() {
            if !self.early.is_empty() {
                let sent = socket.send_slice(&self.early).unwrap_or(0);
                self.early.drain(..sent);
                moved = true;
                continue;
            }
            if !self.readable {
                break;
            }
            let got = socket.send(|buffer| match recv(stream, buffer, RecvFlags::DONTWAIT) {
                Ok((count, _)) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match got {
                Ok(Ok(0)) => {
                    socket.close();
                    self.local_ended = true;
                    moved = true;
                }
                Ok(Ok(_)) => moved = true,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => self.readable = false,
                Ok(Err(_)) | Err(_) => {
                    socket.abort();
                    return true;
                }
            }
        }
        moved
    }

    /// Receive buffer → stream.
    pub(super) fn drain(&mut self) -> bool {
        let state = self.socket().state();
        self.note(state);
        let Some(stream) = &self.stream else {
            return false;
        };
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        let mut moved = false;
        while self.writable && socket.can_recv() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let put = socket.recv(|buffer| match send(stream, buffer, flags) {
                Ok(count) => (count, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match put {
                Ok(Ok(())) => moved = true,
                Ok(Err(Errno::INTR)) => {}
                Ok(Err(Errno::AGAIN)) => self.writable = false,
                Ok(Err(_)) | Err(_) => {
                    // Nobody reads any more.  What is left must not keep the connection alive.
                    self.writable = false;
                    self.local_ended = false;
                    socket.abort();
                    return true;
                }
            }
        }
        if self.remote_fin && !self.remote_ended && !socket.can_recv() {
            self.remote_ended = true;
            // Fails if the stream is gone; reading it tells.
            let _ = shutdown(stream.as_fd(), Shutdown::Write);
            self.readable = true;
            moved = true;
        }
        moved
    }
}
