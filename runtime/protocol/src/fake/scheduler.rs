//! A scheduler that computes nothing.

use std::{io, net::SocketAddr};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{
    server::{Fault, HANDSHAKE, Shared, accept_all, now, serve},
    state::State,
};

/// A fake scheduler on a port of this machine. Gone when dropped.
#[derive(Debug)]
pub struct FakeScheduler {
    address: SocketAddr,
    shared: Shared,
    incarnation: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl FakeScheduler {
    /// Starts one without workers and work.
    ///
    /// # Errors
    /// When it can have no port.
    pub async fn start() -> io::Result<Self> {
        Self::start_at("127.0.0.1:0").await
    }

    /// Starts one on this address and port.
    ///
    /// # Errors
    /// When it cannot have the port.
    pub async fn start_at(socket: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(socket).await?;
        let address = listener.local_addr()?;
        let state = State::new(identifier(address, 1), format!("tcp://{address}"), now());
        let shared = Shared::new(state);
        let (incarnation, current) = watch::channel(1);
        let serving = shared.clone();
        let task = tokio::spawn(accept_all(listener, move |stream| {
            let (shared, mut current) = (serving.clone(), current.clone());
            // Only what changes from now on ends this connection.
            current.mark_unchanged();
            async move {
                tokio::select! {
                    _ = serve(stream, shared) => {}
                    _ = current.changed() => {}
                }
            }
        }));
        Ok(Self { address, shared, incarnation, task })
    }

    /// Host and port.
    #[must_use]
    pub fn host_port(&self) -> String {
        self.address.to_string()
    }

    /// Looks at what it knows, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        self.shared.with(look)
    }

    /// Makes the next calls of an operation fail.
    pub fn inject(&self, op: &str, fault: Fault, times: u32) {
        self.shared.inject(op, fault, times);
    }

    /// Makes the next connections fail before a word is said; [`Fault::Hang`] never answers the handshake.
    pub fn inject_handshake(&self, fault: Fault, times: u32) {
        self.shared.inject(HANDSHAKE, fault, times);
    }

    /// Ends all faults. What hangs goes on hanging.
    pub fn mend(&self) {
        self.shared.mend();
    }

    /// Closes all connections, as a broken network does.
    pub fn disconnect(&self) {
        self.incarnation.send_modify(|_| {});
    }

    /// Starts anew, on the same port: with another id and without workers, tasks and connections.
    pub fn restart(&self) {
        self.incarnation.send_modify(|incarnation| {
            *incarnation += 1;
            let id = identifier(self.address, *incarnation);
            self.shared.with(|state| {
                *state = State {
                    release: state.release,
                    has_module: state.has_module,
                    calls: std::mem::take(&mut state.calls),
                    ..State::new(id, state.address.clone(), now())
                };
            });
            self.shared.drop_streams();
        });
    }
}

impl Drop for FakeScheduler {
    fn drop(&mut self) {
        // With it go its connections.
        self.task.abort();
    }
}

fn identifier(address: SocketAddr, incarnation: u64) -> String {
    format!("Scheduler-{}-{incarnation}", address.port())
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
