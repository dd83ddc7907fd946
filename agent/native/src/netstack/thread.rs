//! The thread that owns the packet socket, and the handle by which Python talks to it.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant as Clock;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use smoltcp::time::Instant;

use super::events::{Event, EventKind, Events, Signal, lock};
use super::stack::{Command, Stack};
use super::stats::{Limits, Stats};

const PACKETS: u64 = u64::MAX; // numbers in epoll that are no connections
const COMMANDS: u64 = u64::MAX - 1;
const READS: usize = 32; // packets in a row, each up to 64 KiB
const LARGEST: usize = 10 + 65_575; // bytes of a read: header, and the largest IPv6 packet

struct Shared {
    commands: Mutex<Vec<Command>>,
    wake: Signal,
    stop: AtomicBool,
    events: Arc<Events>,
    stats: Arc<Stats>,
    ids: Arc<AtomicU64>,
}

/// A running stack.
pub struct Netstack {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    pid: u32,
}

impl Netstack {
    /// Take the packet socket and begin.
    pub fn start(packets: OwnedFd, limits: Limits) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            commands: Mutex::default(),
            wake: Signal::new()?,
            stop: AtomicBool::new(false),
            events: Arc::new(Events::new()?),
            stats: Arc::default(),
            ids: Arc::new(AtomicU64::new(1)),
        });
        let began = Clock::now();
        let (ids, events) = (shared.ids.clone(), shared.events.clone());
        let stack = Stack::new(limits, ids, events, shared.stats.clone(), Instant::ZERO)?;
        let mut worker = Worker {
            shared: shared.clone(),
            stack,
            packets,
            began,
            watched: INPUT,
        };
        let thread = std::thread::Builder::new()
            .name("netstack".into())
            .spawn(move || worker.work())?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
            pid: std::process::id(),
        })
    }

    fn ask(&self, command: Command) {
        let mut commands = lock(&self.shared.commands);
        if self.shared.stop.load(Ordering::Acquire) {
            return; // nobody would take it; a socket it brings is closed
        }
        if commands.is_empty() {
            self.shared.wake.set();
        }
        commands.push(command);
    }

    /// Replace our addresses; connections stay.
    pub fn set_addresses(&self, addresses: Vec<IpAddr>) {
        self.ask(Command::Addresses(addresses));
    }

    /// Begin to connect; `Connected` or `Failed` follows, with the number returned.
    pub fn dial(&self, local: IpAddr, remote: SocketAddr) -> u64 {
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed);
        self.ask(Command::Dial(id, local, remote));
        id
    }

    /// Answer `Syn` or `Connected`: bytes go from and to this stream socket from now on.
    pub fn join(&self, stream: u64, socket: OwnedFd, early: Vec<u8>) {
        self.ask(Command::Join(stream, socket, early));
    }

    /// Refuse or end a connection.
    pub fn abort(&self, stream: u64) {
        self.ask(Command::Abort(stream));
    }

    /// Send a datagram.
    pub fn send_udp(&self, local: SocketAddr, remote: SocketAddr, data: Vec<u8>) {
        self.ask(Command::Udp(local, remote, data));
    }

    /// Send an ICMP message; its checksum is made.
    pub fn send_icmp(&self, local: IpAddr, remote: IpAddr, message: Vec<u8>) {
        self.ask(Command::Icmp(local, remote, message));
    }

    /// Tell the sender of a datagram that nobody listens.
    pub fn refuse_udp(&self, local: SocketAddr, remote: SocketAddr) {
        self.ask(Command::RefuseUdp(local, remote));
    }

    /// At most `max` events.
    pub fn take_events(&self, max: usize) -> Vec<Event> {
        self.shared.events.take(max)
    }

    /// Readable while events wait; lives as long as this object.
    pub fn event_fd(&self) -> RawFd {
        self.shared.events.signal.raw()
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// End the thread and every connection.  Idempotent.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.set();
        if let Some(thread) = lock(&self.thread).take() {
            if std::process::id() == self.pid {
                // It fails only if the thread panicked, which it has said itself.
                let _ = thread.join();
            } else {
                std::mem::forget(thread); // after fork() there is no such thread
            }
        }
    }
}

impl Drop for Netstack {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    shared: Arc<Shared>,
    stack: Stack,
    packets: OwnedFd,
    began: Clock,
    watched: epoll::EventFlags, // of the packet socket
}

impl Worker {
    fn work(&mut self) {
        crate::sys::block_signals();
        if let Err(error) = self.serve()
            && !self.shared.stop.load(Ordering::Acquire)
        {
            let nowhere = SocketAddr::new(IpAddr::from([0; 4]), 0);
            self.shared.events.push(Event {
                kind: EventKind::Died,
                stream: 0,
                local: nowhere,
                remote: nowhere,
                data: error.to_string().into_bytes(),
            });
        }
        // Sockets that were given and not taken are closed now, not when Python lets go of the handle.
        self.shared.stop.store(true, Ordering::Release);
        lock(&self.shared.commands).clear();
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.began.elapsed().as_micros() as i64)
    }

    fn serve(&mut self) -> Result<(), Errno> {
        let number = epoll::EventData::new_u64;
        epoll::add(&self.stack.epoll, &self.packets, number(PACKETS), INPUT)?;
        epoll::add(
            &self.stack.epoll,
            &self.shared.wake,
            number(COMMANDS),
            INPUT,
        )?;
        let mut ready = [const { blank() }; 64];
        let mut buffer = vec![0; LARGEST];
        let mut wake_at = Some(self.now());
        while !self.shared.stop.load(Ordering::Acquire) {
            let pause = wake_at.map_or(0, |at| (at - self.now()).total_micros());
            let pause = if wake_at.is_some_and(|at| at <= self.now()) {
                0
            } else {
                pause
            };
            let pause = Timespec {
                tv_sec: (pause / 1_000_000) as i64,
                tv_nsec: (pause % 1_000_000 * 1000) as _,
            };
            let count = match epoll::wait(&self.stack.epoll, &mut ready, Some(&pause)) {
                Ok(count) => count,
                Err(Errno::INTR) => 0,
                Err(error) => return Err(error),
            };
            for event in &ready[..count] {
                let flags = event.flags;
                match event.data.u64() {
                    PACKETS => {
                        if flags.intersects(GONE) && !flags.contains(INPUT) {
                            return Err(Errno::PIPE);
                        }
                    }
                    COMMANDS => self.commands(),
                    id => {
                        let readable = flags.intersects(INPUT | GONE);
                        let writable = flags.intersects(OUTPUT | GONE);
                        self.stack.ready(id, readable, writable);
                    }
                }
            }
            self.read(&mut buffer)?;
            let now = self.now();
            wake_at = self.stack.run(now, self.packets.as_fd())?;
            self.watch()?;
        }
        Ok(())
    }

    fn commands(&mut self) {
        let commands = {
            let mut waiting = lock(&self.shared.commands);
            self.shared.wake.clear();
            std::mem::take(&mut *waiting)
        };
        let now = self.now();
        for command in commands {
            self.stack.command(command, now);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), Errno> {
        let now = self.now();
        for _ in 0..READS {
            if self.stack.outbox.full() {
                break;
            }
            match recv(&self.packets, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Errno::PIPE),
                Ok((count, _)) => self.stack.ingress(&buffer[..count], now),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ask to be woken when there is room again, and do not read more than can be answered.
    fn watch(&mut self) -> Result<(), Errno> {
        let outbox = &self.stack.outbox;
        let wanted = match (outbox.is_empty(), outbox.full()) {
            (true, _) => INPUT,
            (false, false) => INPUT.union(OUTPUT),
            (false, true) => OUTPUT,
        };
        if wanted != self.watched {
            self.watched = wanted;
            let number = epoll::EventData::new_u64(PACKETS);
            epoll::modify(&self.stack.epoll, &self.packets, number, wanted)?;
        }
        Ok(())
    }
}

const INPUT: epoll::EventFlags = epoll::EventFlags::IN;
const OUTPUT: epoll::EventFlags = epoll::EventFlags::OUT;
const GONE: epoll::EventFlags = epoll::EventFlags::HUP.union(epoll::EventFlags::ERR);

const fn blank() -> epoll::Event {
    epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }
}
