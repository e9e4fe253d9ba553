//! A thread for the election alone.
//!
//! The Lease has to be renewed in time whatever the rest of the process does: a tenant who keeps its worker threads busy,
//! for example with a scheduler that answers millions of values, must not be able to end its leadership. So the election
//! shares neither threads nor connections nor the bound on calls with anybody.

use std::io;
use std::thread;

use kube::Client;
use tokio::runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Election;
use crate::error_chain::chain;

/// Stack of the thread, in bytes: for a TLS handshake in a program without optimisation.
const STACK: usize = 1024 * 1024;

/// Makes a client; called on the thread, whose runtime the client's connections belong to.
pub type Connect<E> = Box<dyn FnOnce() -> Result<Client, E> + Send>;

/// Runs an election on a thread of its own until `shutdown`. What is returned resolves when it has ended.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn spawn<E>(
    election: Election,
    connect: Connect<E>,
    shutdown: CancellationToken,
) -> io::Result<oneshot::Receiver<()>>
where
    E: std::error::Error + 'static,
{
    let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name("election".to_owned()).stack_size(STACK).spawn(move || {
        runtime.block_on(async {
            match connect() {
                Ok(client) => election.run(client, shutdown).await,
                Err(error) => error!(error = %chain(&error), "failed to take part in the election"),
            }
        });
        // Nobody may wait for it any more.
        let _ = ended.send(());
    })?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::Barrier;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::leader::election::tests::Api;
    use crate::leader::{Leadership, LeaseLocation, Timing};

    const TIMING: Timing = Timing {
        lease: Duration::from_millis(600),
        renew_deadline: Duration::from_millis(400),
        retry: Duration::from_millis(50),
    };
    const LIMIT: Duration = Duration::from_secs(10);

    fn stand(api: &Api) -> (Leadership, CancellationToken, oneshot::Receiver<()>) {
        let location = LeaseLocation { namespace: "ns".to_owned(), name: "dask-operator".to_owned() };
        let (election, leadership) = Election::new(location, "me", TIMING);
        let (api, stop) = (api.clone(), CancellationToken::new());
        let end = spawn::<Infallible>(election, Box::new(move || Ok(api.client())), stop.clone()).unwrap();
        (leadership, stop, end)
    }

    /// Each of the threads of a runtime with two is held until the barrier is reached.
    fn hold(runtime: &runtime::Runtime) -> Arc<Barrier> {
        let (held, released) = (Arc::new(Barrier::new(3)), Arc::new(Barrier::new(3)));
        for _ in 0..2 {
            let (held, released) = (held.clone(), released.clone());
            runtime.spawn(async move {
                held.wait();
                released.wait();
            });
        }
        held.wait();
        released
    }

    #[test]
    fn it_leads_on_while_all_threads_of_the_operator_are_busy() {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let api = Api::new();
        let (leadership, stop, end) = stand(&api);
        runtime.block_on(async {
            let mut changes = leadership.changes();
            let leads = changes.wait_for(|leads| *leads);
            tokio::time::timeout(LIMIT, leads).await.expect("it leads").unwrap();
        });
        let released = hold(&runtime);
        let until = Instant::now() + TIMING.renew_deadline * 4;
        while Instant::now() < until {
            assert!(leadership.is_leader(), "no renewal while the threads were busy");
            thread::yield_now();
        }
        released.wait();
        stop.cancel();
        runtime.block_on(async { tokio::time::timeout(LIMIT, end).await.expect("it ends").unwrap() });
        assert_eq!(api.holder(), None, "the Lease was given back");
        assert!(!leadership.is_leader());
    }

    #[tokio::test]
    async fn without_a_client_it_ends() {
        let location = LeaseLocation { namespace: "ns".to_owned(), name: "l".to_owned() };
        let (election, leadership) = Election::new(location, "me", TIMING);
        let connect: Connect<io::Error> = Box::new(|| Err(io::Error::other("no configuration")));
        let end = spawn(election, connect, CancellationToken::new()).unwrap();
        tokio::time::timeout(LIMIT, end).await.expect("it ends").unwrap();
        assert!(!leadership.is_leader());
    }
}
