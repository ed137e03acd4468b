//! The class `GdbServer`, and the method of `VM` that makes one. It never speaks the protocol: `gdb` does.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::gdb::{Address, Listener, Server};

use super::address::Fitting;
use super::running::{detached, poll};
use super::vm::VM;

/// How long a wait goes on before it looks for signals.
const SLICE: Duration = Duration::from_millis(40);

/// All servers that may be there, which end before the interpreter does.
static SERVERS: Mutex<Vec<Weak<Server>>> = Mutex::new(Vec::new());

/// A server for gdb, as vm.gdbserver() makes it. It serves until it or its VM is closed, one client after another.
#[pyclass(frozen, module = "belljar")]
pub struct GdbServer {
    server: Arc<Server>,
}

/// Ends all servers: their threads must not outlive the interpreter.
pub fn close_all(py: Python<'_>) {
    let servers = std::mem::take(&mut *SERVERS.lock().unwrap_or_else(PoisonError::into_inner));
    py.detach(|| servers.iter().filter_map(Weak::upgrade).for_each(|server| server.close()));
}

fn remember(server: &Arc<Server>) {
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    servers.retain(|s| s.strong_count() > 0);
    servers.push(Arc::downgrade(server));
}

#[pymethods]
impl VM {
    /// Serves gdb: `gdb -ex "target remote :1234" vmlinux`. Returns at once, unless it is to `wait` for a client.
    ///
    /// Listens at TCP `port` of `host` (0: a free one, which `.port` tells), or at the Unix socket `path`. The guest is held
    /// while a client is connected, until gdb has it go on; vCPUs are gdb's threads. Where nothing runs the guest, gdb's
    /// `continue` does so in the background. With `wait`, it returns once gdb is connected, and running the guest is left to
    /// the program: vm.run() begins, and waits until gdb has it go on. Who reaches the port has the whole guest.
    #[pyo3(signature = (port = Fitting(0), host = "127.0.0.1", *, wait = false, path = None), text_signature = "($self, port=0, host='127.0.0.1', *, wait=False, path=None)")]
    fn gdbserver(
        &self,
        py: Python<'_>,
        port: Fitting<u16>,
        host: &str,
        wait: bool,
        path: Option<PathBuf>,
    ) -> PyResult<GdbServer> {
        if path.is_some() && port.0 != 0 {
            return Err(PyValueError::new_err("either a port or a path: gdbserver(1234), or gdbserver(path=\"...\")"));
        }
        self.in_background.store(true, Ordering::Relaxed);
        let machine = self.machine();
        let server = detached(py, || {
            let listener = path.as_deref().map_or_else(|| Listener::tcp(host, port.0), Listener::unix)?;
            Server::start(machine, listener, !wait).map(Arc::new)
        })?;
        remember(&server);
        self.keep_server(&server);
        let made = GdbServer { server };
        if wait {
            made.wait(py, None)?;
        }
        Ok(made)
    }
}

#[pymethods]
impl GdbServer {
    /// The TCP port; None for a Unix socket.
    #[getter]
    fn port(&self) -> Option<u16> {
        if let Address::Tcp(address) = &self.server.address { Some(address.port()) } else { None }
    }

    /// What gdb's `target remote` takes: "127.0.0.1:1234", or the path of a Unix socket.
    #[getter]
    fn address(&self) -> String {
        match &self.server.address {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(path) => path.display().to_string(),
        }
    }

    /// Is a client connected now, with the guest in its hands?
    #[getter]
    fn connected(&self) -> bool {
        self.server.is_connected()
    }

    /// Has it ended? It ends with its VM, too.
    #[getter]
    fn closed(&self) -> bool {
        self.server.is_closed()
    }

    /// The command that connects gdb.
    #[getter]
    fn command(&self) -> String {
        format!("gdb -ex \"target remote {}\"", self.address())
    }

    /// Waits until a client is connected and the guest is held. TimeoutError after `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let patience = super::running::seconds("timeout", timeout)?;
        let deadline = patience.and_then(|p| std::time::Instant::now().checked_add(p));
        loop {
            let left = deadline.map_or(SLICE, |d| d.saturating_duration_since(std::time::Instant::now()).min(SLICE));
            if py.detach(|| self.server.wait(left)) {
                return Ok(());
            }
            detached(py, poll)?;
            if self.server.is_closed() {
                return Err(PyValueError::new_err("the server was closed before gdb came"));
            }
            if left.is_zero() {
                return Err(pyo3::exceptions::PyTimeoutError::new_err(format!("nobody came: {}", self.command())));
            }
        }
    }

    /// Ends it: a client that is connected is told that the guest is gone, breakpoints are removed, and the guest goes on.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.server.close());
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception: "object"))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let state = match (self.closed(), self.connected()) {
            (true, _) => return format!("<GdbServer {} closed>", self.address()),
            (false, true) => "connected",
            (false, false) => "waiting",
        };
        format!("<GdbServer {state}: {}>", self.command())
    }
}
