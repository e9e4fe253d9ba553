//! The loop that keeps, or waits for, the Lease.

use std::future::pending;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::candidate::{Candidate, Step};
use super::evaluate::Timing;
use super::leadership::{Herald, Leadership};
use crate::writer::FIELD_MANAGER;

/// Longest time for giving the Lease back.
const RELEASE_LIMIT: Duration = Duration::from_secs(3);
/// Refusals in a row, without any success ever, after which the process leads without a Lease. More than one,
/// because an API server that has just started refuses calls until it has read its rules.
const REFUSALS_BEFORE_LEADING: u32 = 3;
/// Pause between two tries to use the Lease after all.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// Where the Lease is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseLocation {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// One replica's part in the election.
#[derive(Debug)]
pub struct Election {
    location: LeaseLocation,
    candidate: Candidate,
    timing: Timing,
    herald: Herald,
    refusals: u32,
    /// Whether the API server ever let this process use the Lease.
    allowed: bool,
    /// Leads without a Lease, for want of the right to use one.
    unguarded: bool,
}

/// What became of a try.
enum Outcome {
    /// This process leads.
    Leads,
    /// Somebody else does.
    Follows,
    /// The Lease changed since it was read.
    Outdated,
    /// This process has no right to use Leases.
    Refused(String),
    /// The API server failed or did not answer.
    Failed(String),
}

impl Election {
    /// A candidate called `me`, which must differ from all others. It does nothing until [`Election::run`].
    #[must_use]
    pub fn new(location: LeaseLocation, me: &str, timing: Timing) -> (Self, Leadership) {
        let (herald, leadership) = Leadership::announced();
        let election = Self {
            location,
            candidate: Candidate::new(me.to_owned(), timing),
            timing,
            herald,
            refusals: 0,
            allowed: false,
            unguarded: false,
        };
        (election, leadership)
    }

    /// Takes part until `shutdown`, then gives the Lease back.
    pub async fn run(mut self, client: Client, shutdown: CancellationToken) {
        let api: Api<Lease> = Api::namespaced(client, &self.location.namespace);
        while let Some(outcome) = shutdown.run_until_cancelled(self.try_within_term(&api)).await {
            let pause = self.conclude(outcome);
            let term_ends = self.candidate.term_ends().map(Instant::from_std);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = until(term_ends) => self.lose("the lease could not be renewed in time"),
                () = sleep(pause) => {}
            }
        }
        self.release(&api).await;
    }

    /// One try, cut off where the term ends.
    async fn try_within_term(&mut self, api: &Api<Lease>) -> Outcome {
        let now = std::time::Instant::from(Instant::now());
        let limit = self.candidate.term_ends().map(|end| end.saturating_duration_since(now));
        let limit = limit.unwrap_or(self.timing.renew_deadline);
        let outcome = timeout(limit, self.attempt(api)).await;
        let outcome = outcome
            .unwrap_or_else(|_| Outcome::Failed(format!("no answer within {} s", limit.as_secs_f64())));
        if !matches!(outcome, Outcome::Leads) {
            self.candidate.look_again();
        }
        outcome
    }

    async fn attempt(&mut self, api: &Api<Lease>) -> Outcome {
        loop {
            let sent = Instant::now().into_std();
            match self.candidate.step(sent, Timestamp::now()) {
                Step::Wait => return Outcome::Follows,
                Step::Read => match api.get_opt(&self.location.name).await {
                    Ok(lease) => self.candidate.read(lease, Instant::now().into_std()),
                    Err(error) => return Outcome::of(&error),
                },
                Step::Write(lease) => {
                    return match self.write(api, *lease).await {
                        Ok(lease) => {
                            self.candidate.wrote(lease, sent, Instant::now().into_std());
                            Outcome::Leads
                        }
                        Err(error) => Outcome::of(&error),
                    };
                }
            }
            self.allowed = true;
        }
    }

    async fn write(&self, api: &Api<Lease>, mut lease: Lease) -> Result<Lease, Error> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        if lease.metadata.resource_version.is_some() {
            return api.replace(&self.location.name, &params, &lease).await;
        }
        lease.metadata = ObjectMeta { name: Some(self.location.name.clone()), ..ObjectMeta::default() };
        api.create(&params, &lease).await
    }

    /// Draws the conclusions of a try; returns the pause before the next.
    fn conclude(&mut self, outcome: Outcome) -> Duration {
        self.refusals = if matches!(outcome, Outcome::Refused(_)) { self.refusals + 1 } else { 0 };
        match outcome {
            Outcome::Leads => {
                self.unguarded = false;
                self.herald.notice(None);
                if self.herald.leads_until(self.candidate.term_ends().map(Instant::from_std)) {
                    info!(lease = %self.name(), "this replica leads");
                }
                return self.timing.retry;
            }
            Outcome::Follows => {
                self.unguarded = false;
                self.herald.notice(None);
                self.lose("another replica holds the lease");
            }
            Outcome::Outdated => {
                debug!(lease = %self.name(), "the lease changed since it was read");
                return self.timing.retry.mul_f64(fastrand::f64() / 4.0);
            }
            Outcome::Refused(error) if !self.allowed && self.refusals >= REFUSALS_BEFORE_LEADING => {
                self.lead_unguarded(&error);
                return REFUSED_RETRY;
            }
            Outcome::Refused(error) | Outcome::Failed(error) => {
                warn!(lease = %self.name(), error, "failed to use the lease; will be tried again");
                self.herald.notice(Some(format!("failed to use Lease {}: {error}", self.name())));
            }
        }
        // Candidates that started together drift apart.
        self.timing.retry.mul_f64(1.0 + fastrand::f64() / 5.0)
    }

    fn lead_unguarded(&mut self, error: &str) {
        if self.unguarded {
            return;
        }
        self.unguarded = true;
        let notice = format!(
            "no right to get, create and update Lease {}, so this replica writes without asking others: run one \
             replica only, or grant the right",
            self.name()
        );
        warn!(error, "{notice}");
        self.herald.notice(Some(notice));
        self.herald.leads_until(None);
    }

    fn lose(&mut self, why: &str) {
        self.candidate.lost();
        if self.herald.follows() {
            warn!(lease = %self.name(), why, "this replica no longer leads");
        }
    }

    /// Gives the Lease back, after everybody in this process was told not to write any more.
    async fn release(mut self, api: &Api<Lease>) {
        self.herald.follows();
        if !self.allowed {
            return;
        }
        let release = async {
            // A write may have been under way: read what became of it.
            let lease = api.get_opt(&self.location.name).await?;
            self.candidate.read(lease, Instant::now().into_std());
            match self.candidate.release(Timestamp::now()) {
                Some(lease) => self.write(api, lease).await.map(|_| true),
                None => Ok(false),
            }
        };
        match timeout(RELEASE_LIMIT, release).await {
            Ok(Ok(true)) => info!(lease = %self.name(), "lease released"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => {
                warn!(lease = %self.name(), %error, "failed to release the lease; it will expire");
            }
            Err(_) => warn!(lease = %self.name(), "no answer to releasing the lease; it will expire"),
        }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.location.namespace, self.location.name)
    }
}

impl Outcome {
    fn of(error: &Error) -> Self {
        match error {
            Error::Api(status) if status.is_forbidden() => Self::Refused(status.message.clone()),
            Error::Api(status) if status.is_conflict() || status.is_already_exists() => Self::Outdated,
            Error::Api(status) => Self::Failed(status.message.clone()),
            error => Self::Failed(error.to_string()),
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => pending().await,
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
pub(super) mod tests;
