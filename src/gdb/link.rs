//! The line to gdb: a TCP or Unix socket that is waited for together with news of the machine. It never understands
//! what is said on it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gdbstub::conn::Connection;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::error::{Error, Result};

/// How long a client may leave what it is sent unread before it counts as gone.
const PATIENCE: Duration = Duration::from_secs(10);

fn failed(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |e| Error::Host { what, errno: e.raw_os_error().unwrap_or(0) }
}

/// Where gdb finds the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// For TCP.
    Tcp(TcpListener),
    /// At a path, which is removed in the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens for TCP at `host` (a name or number) and `port`; 0 has the kernel choose one.
    pub fn tcp(host: &str, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((host, port)).map_err(failed("bind"))?;
        listener.set_nonblocking(true).map_err(failed("fcntl"))?;
        Ok(Self::Tcp(listener))
    }

    /// Listens at `path`, where nothing may be yet.
    pub fn unix(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).map_err(failed("bind"))?;
        listener.set_nonblocking(true).map_err(failed("fcntl"))?;
        Ok(Self::Unix(listener, path.to_owned()))
    }

    /// Where it listens.
    pub fn address(&self) -> Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp).map_err(failed("getsockname")),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// Who has come, if somebody has.
    pub fn accept(&self) -> Option<Stream> {
        let stream = match self {
            Self::Tcp(listener) => Stream::Tcp(listener.accept().ok()?.0),
            Self::Unix(listener, _) => Stream::Unix(listener.accept().ok()?.0),
        };
        stream.prepare().ok()?;
        Some(stream)
    }

    /// Its descriptor, to wait for.
    pub fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener, _) => listener.as_raw_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Stream {
    fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(s) => {
                s.set_nonblocking(false)?;
                s.set_write_timeout(Some(PATIENCE))?;
                s.set_nodelay(true)
            }
            Self::Unix(s) => {
                s.set_nonblocking(false)?;
                s.set_write_timeout(Some(PATIENCE))
            }
        }
    }

    /// Another handle to the same connection.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(s) => Self::Tcp(s.try_clone()?),
            Self::Unix(s) => Self::Unix(s.try_clone()?),
        })
    }

    /// Ends the connection, also under a thread that waits for it.
    pub fn hang_up(&self) {
        let _ = match self {
            Self::Tcp(s) => s.shutdown(Shutdown::Both),
            Self::Unix(s) => s.shutdown(Shutdown::Both),
        };
    }

    fn fd(&self) -> RawFd {
        match self {
            Self::Tcp(s) => s.as_raw_fd(),
            Self::Unix(s) => s.as_raw_fd(),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read(into),
            Self::Unix(s) => s.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(s) => Write::write_all(s, bytes),
            Self::Unix(s) => Write::write_all(s, bytes),
        }
    }
}

/// Waits for one descriptor and for news.
#[derive(Debug)]
pub struct Waiter(Epoll);

impl Waiter {
    /// For `fd`, and for `news`, which stays readable until it is [`Waiter::heard`].
    pub fn new(fd: RawFd, news: &EventFd) -> Result<Self> {
        let epoll = Epoll::new().map_err(failed("epoll_create1"))?;
        for (data, fd) in [(0, fd), (1, news.as_raw_fd())] {
            let event = EpollEvent::new(EventSet::IN, data);
            epoll.ctl(ControlOperation::Add, fd, event).map_err(failed("epoll_ctl"))?;
        }
        Ok(Self(epoll))
    }

    /// Waits for either, or for so long. Is the descriptor ready?
    pub fn wait(&self, patience: Duration) -> bool {
        let mut events = [EpollEvent::default(); 2];
        let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        let count = self.0.wait(patience, &mut events).unwrap_or(0);
        events[..count].iter().any(|event| event.data() == 0)
    }

    /// Takes note of the news.
    pub fn heard(news: &EventFd) {
        let _ = news.read(); // it does not block
    }
}

/// A connection with what has come in and what is to go out.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    waiter: Waiter,
    inbox: VecDeque<u8>,
    outbox: Vec<u8>,
}

impl Link {
    /// Over `stream`, waited for together with `news`.
    pub fn new(stream: Stream, news: &EventFd) -> Result<Self> {
        let waiter = Waiter::new(stream.fd(), news)?;
        Ok(Self { stream, waiter, inbox: VecDeque::new(), outbox: Vec::new() })
    }

    /// The next byte, if there is one by the end of `patience` or before news comes. An error: the client is gone.
    pub fn next(&mut self, patience: Duration) -> io::Result<Option<u8>> {
        if self.inbox.is_empty() && self.waiter.wait(patience) {
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.inbox.extend(&bytes[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.inbox.pop_front())
    }
}

impl Connection for Link {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.outbox.push(byte);
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.outbox.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.outbox);
        self.stream.write_all(&bytes)
    }
}
