//! One scheduler: connect, ask, publish, and again.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::Reason;
use dask_operator_api::conditions::MAX_MESSAGE;
use dask_protocol::printable;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::connect::{Connection, Dialer, LinkError};
use super::drain_executor::{Calls, Done};
use super::drains::Drains;
use super::news::News;
use super::poll::{self, Pace};
use super::questions::{Answers, Wanted, ask};
use super::roster::Roster;
use super::situation::Situation;
use super::target::Target;
use super::view::{DrainProgress, Idleness, LinkFailure, LinkView, Members, Sample, Source};
use crate::cluster_cache::ObjectKey;
use crate::context::Context;
use crate::controllers::announce::Announcement;
use crate::error_chain::chain;

/// A scheduler that does not answer for so long is told of by an Event.
const TOLD_AFTER: Duration = Duration::from_secs(30);
/// How long the workers matter after the scheduler was found to be another one.
const NEW_SCHEDULER: Duration = Duration::from_mins(2);
/// A scheduler that is starting is asked at least so often.
const STARTING: Duration = Duration::from_secs(1);

/// The task of one cluster.
pub(super) struct Link {
    key: ObjectKey,
    ctx: Arc<Context>,
    dialer: Dialer,
    wake: Arc<Notify>,
    connection: Option<Connection>,
    target: Option<Target>,
    process: Option<Process>,
    drains: Drains,
    calls: Calls,
    /// When the workers were asked for last, and what came.
    listed: Option<(Instant, Arc<Members>)>,
    trouble: Option<Trouble>,
}

/// The scheduler process that answers.
#[derive(Clone, Debug)]
struct Process {
    id: Arc<str>,
    since: Timestamp,
    /// Another one was known before.
    replaces: bool,
}

/// It does not answer.
#[derive(Clone, Debug)]
struct Trouble {
    since: Timestamp,
    failures: u32,
    told: bool,
    /// What it answers costs something, and is of no use.
    costly: bool,
}

impl Link {
    pub(super) fn new(key: ObjectKey, ctx: Arc<Context>, dialer: Dialer, wake: Arc<Notify>) -> Self {
        Self {
            key,
            ctx,
            dialer,
            wake,
            connection: None,
            target: None,
            process: None,
            drains: Drains::default(),
            calls: Calls::default(),
            listed: None,
            trouble: None,
        }
    }

    /// Asks for as long as the cluster exists.
    pub(super) async fn run(mut self) {
        while let Some(situation) = self.situation() {
            if situation.target != self.target {
                self.begin_anew(situation.target.clone());
            }
            let pause = match &situation.target {
                None => {
                    self.not_running();
                    None
                }
                Some(target) => self.round(target, &situation).await,
            };
            self.wait(pause, &situation).await;
        }
    }

    fn situation(&self) -> Option<Situation> {
        situation(&self.ctx, &self.key, self.drains.is_active())
    }

    /// Another pod, or none: whatever was known is of the past.
    fn begin_anew(&mut self, target: Option<Target>) {
        self.target = target;
        self.trouble = None;
        self.reset_drains();
        self.connection = None;
    }

    fn reset_drains(&mut self) {
        (self.drains, self.calls, self.listed) = (Drains::default(), Calls::default(), None);
    }

    fn not_running(&self) {
        let view = self.ctx.links.view(&self.key);
        if view.failure.as_ref().is_some_and(|failure| failure.reason == Reason::SchedulerNotRunning) {
            return;
        }
        let message = "no pod of the scheduler runs".to_owned();
        let failure = LinkFailure { reason: Reason::SchedulerNotRunning, message, since: Timestamp::now() };
        self.publish(LinkView { asked: true, sample: view.sample.clone(), failure: Some(failure) });
    }

    /// One round; gives the pause until the next. `None` stands for no end: only a change in the cache helps.
    async fn round(&mut self, target: &Target, situation: &Situation) -> Option<Duration> {
        let shrinking = situation.interest.shrinking || self.drains.is_active();
        let wanted = Wanted {
            list: (shrinking || self.is_new()) && self.list_is_due(),
            adaptive_target: situation.interest.adaptive_target,
            idleness: situation.interest.idleness,
        };
        let (asked, pods) = (Timestamp::now(), self.pods());
        // A question can take a minute; a scheduler that is gone need not be waited for.
        let (ctx, key, wake) = (self.ctx.clone(), self.key.clone(), self.wake.clone());
        let answers = tokio::select! {
            answers = self.ask(target, wanted, pods) => answers,
            () = gone(&ctx, &key, &wake, target) => {
                self.connection = None;
                return Some(Duration::ZERO);
            }
        };
        let pause = match answers {
            Ok(answers) => {
                self.ctx.metrics.scheduler_poll(source_word(answers.source));
                self.heard(&answers, asked, situation, pods);
                let busy = answers.busy.unwrap_or(answers.idleness == Idleness::Busy);
                let watched = situation.interest.adaptive_target || situation.interest.idleness;
                let pace = Pace { shrinking, watched, busy, refused: self.drains.are_refused() };
                let decoding = self.connection.as_mut().map(|open| open.client.take_decoding_time());
                poll::interval(pace, fastrand::f64()).max(poll::rest(decoding.unwrap_or_default()))
            }
            Err(error) => self.failed(&error, target, situation),
        };
        if !self.drains.is_active() {
            self.calls.rest().await;
        }
        Some(pause)
    }

    /// Pods of the cluster's workers.
    fn pods(&self) -> usize {
        let snapshot = self.ctx.cache.cluster_snapshot(&self.key);
        snapshot.map_or(0, |snapshot| snapshot.groups.iter().map(|group| group.pods().count()).sum())
    }

    async fn ask(&mut self, target: &Target, wanted: Wanted, pods: usize) -> Result<Answers, LinkError> {
        let kept = self.connection.is_some();
        match self.ask_once(target, wanted, pods).await {
            // The scheduler process restarted in its pod, or somebody between drops idle connections.
            Err(error) if kept && error.is_closed() => self.ask_once(target, wanted, pods).await,
            result => result,
        }
    }

    async fn ask_once(&mut self, target: &Target, wanted: Wanted, pods: usize) -> Result<Answers, LinkError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.dialer.open(target, pods).await?,
        };
        connection.client.expect_pods(pods);
        let answers = ask(&mut connection, wanted).await?;
        self.connection = Some(connection);
        Ok(answers)
    }

    /// Takes what the scheduler said.
    fn heard(&mut self, answers: &Answers, asked: Timestamp, situation: &Situation, pods: usize) {
        let now = Timestamp::now();
        let known = self.process.as_ref().is_some_and(|process| *process.id == *answers.id);
        if !known {
            let earlier = self.process.as_ref().map(|process| process.id.to_string());
            let replaces = earlier.or_else(|| situation.known_id.clone()).is_some_and(|id| id != answers.id);
            info!(cluster = %self.key, id = answers.id, source = ?answers.source, replaces, "scheduler answers");
            self.process = Some(Process { id: answers.id.as_str().into(), since: now, replaces });
            self.reset_drains();
        }
        let process = self.process.as_ref();
        let (id, since) =
            process.map_or_else(|| ("".into(), now), |process| (process.id.clone(), process.since));
        if let Some((workers, ranking)) = &answers.list {
            let roster = Roster::new(asked, now, workers, ranking.as_deref());
            self.listed = Some((Instant::now(), roster.members.clone()));
            let before = self.drains.progress();
            if let Some(target) = self.target.as_ref().filter(|_| self.ctx.leadership.is_leader()) {
                for batch in self.drains.look(&situation.pods, &roster, since, now) {
                    debug!(cluster = %self.key, how = ?batch.how, workers = ?batch.addresses(), "retiring workers");
                    self.calls.start(batch, &self.dialer, target, pods);
                }
            }
            self.tell_drains(&before);
        } else if !self.drains.is_active() && !situation.interest.shrinking && !self.is_new() {
            self.listed = None;
        }
        self.recovered(answers.source);
        let sample = Sample {
            taken: now,
            scheduler_id: id,
            started: answers.started,
            source: answers.source,
            workers: answers.workers,
            threads: answers.threads,
            queued: answers.queued,
            unrunnable: answers.unrunnable,
            adaptive_target: answers.adaptive_target,
            idleness: answers.idleness,
            members: self.listed.as_ref().map(|(_, members)| members.clone()),
            drains: self.drains.progress(),
        };
        self.publish(LinkView { asked: true, sample: Some(Arc::new(sample)), failure: None });
    }

    /// Nothing is known; what was known stays.
    fn failed(&mut self, error: &LinkError, target: &Target, situation: &Situation) -> Duration {
        let (now, reason, message) = (Timestamp::now(), error.reason(), error.message(target));
        self.ctx.metrics.scheduler_failure(reason);
        let costly = error.is_costly();
        let trouble = self.trouble.get_or_insert(Trouble { since: now, failures: 0, told: false, costly });
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.costly = costly;
        if trouble.failures == 1 {
            info!(cluster = %self.key, %reason, cause = message, "scheduler does not answer");
        }
        // Here, and nowhere else, is what a stranger may have said.
        debug!(cluster = %self.key, error = printable(&chain(error), MAX_MESSAGE), "scheduler does not answer");
        if situation.ready && !trouble.told && now >= trouble.since + TOLD_AFTER {
            trouble.told = true;
            let news = Announcement { reason, message: message.clone(), warning: true };
            announce(&self.ctx, &self.key, &news);
        }
        let (since, pause) = (trouble.since, poll::retry(trouble.failures, costly, fastrand::f64()));
        let sample = self.ctx.links.view(&self.key).sample.clone();
        self.publish(LinkView { asked: true, sample, failure: Some(LinkFailure { reason, message, since }) });
        if situation.ready || costly { pause } else { pause.min(STARTING) }
    }

    fn recovered(&mut self, source: Source) {
        if let Some(trouble) = self.trouble.take()
            && trouble.told
        {
            let reason = match source {
                Source::Telemetry => Reason::Telemetry,
                Source::Standard => Reason::StandardOperations,
            };
            let message = "the scheduler answers again".to_owned();
            announce(&self.ctx, &self.key, &Announcement { reason, message, warning: false });
        }
    }

    /// Takes the answer to a call that retires workers, and publishes what it means.
    fn answered(&mut self, done: &Done) {
        let before = self.drains.progress();
        self.drains.answered(&done.batch, &done.answer, Timestamp::now());
        self.tell_drains(&before);
        if let Some(sample) = &self.ctx.links.view(&self.key).sample {
            let sample = Sample { drains: self.drains.progress(), ..Sample::clone(sample) };
            let failure = self.ctx.links.view(&self.key).failure.clone();
            self.publish(LinkView { asked: true, sample: Some(Arc::new(sample)), failure });
        }
    }

    fn tell_drains(&self, before: &std::collections::BTreeMap<Box<str>, DrainProgress>) {
        for (uid, progress) in self.drains.progress() {
            let outcome = match &progress {
                DrainProgress::Drained => "drained",
                DrainProgress::Refused { .. } => "refused",
                _ => continue,
            };
            if before.get(&uid) != Some(&progress) {
                self.ctx.metrics.drain(outcome);
                info!(cluster = %self.key, pod_uid = %uid, ?progress, "drain");
            }
        }
    }

    /// Replaces what everybody reads, and wakes those whom it concerns.
    fn publish(&self, view: LinkView) {
        let before = self.ctx.links.view(&self.key);
        let news = News::between(&before, &view);
        self.ctx.links.publish(&self.key, view);
        if news.cluster {
            self.ctx.cache.wake_cluster(&self.key);
        }
        if news.groups {
            self.ctx.cache.wake_groups_of(&self.key);
        }
        if news.autoscaler {
            self.ctx.cache.wake_autoscalers_of(&self.key);
        }
    }

    fn is_new(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.replaces && Timestamp::now() < process.since + NEW_SCHEDULER)
    }

    fn list_is_due(&self) -> bool {
        let telemetry = self.connection.as_ref().is_some_and(|connection| connection.telemetry == Some(true));
        self.listed.as_ref().is_none_or(|(at, members)| {
            let workers = members.by_host.values().map(Vec::len).sum();
            at.elapsed() >= poll::list_interval(workers, telemetry)
        })
    }

    /// Whether the pause ends because something changed. After a failure only another scheduler, or one that has become
    /// ready, is a reason: whoever does not answer, or answers too much, is not asked at every change in the cluster.
    fn is_urgent(&self, before: &Situation) -> bool {
        match (self.situation(), &self.trouble) {
            (Some(now), Some(trouble)) => {
                now.target != before.target || (now.ready && !before.ready && !trouble.costly)
            }
            (now, _) => now.as_ref() != Some(before),
        }
    }

    /// Waits for the pause to end, for something else to do, or for a call to come back.
    async fn wait(&mut self, pause: Option<Duration>, situation: &Situation) {
        let end = pause.map(|pause| Instant::now() + pause);
        // What changed during the round woke nobody.
        if self.is_urgent(situation) {
            return;
        }
        loop {
            tokio::select! {
                () = until(end) => return,
                () = self.wake.notified() => {
                    if self.is_urgent(situation) {
                        return;
                    }
                }
                done = self.calls.next() => {
                    self.answered(&done);
                    return;
                }
            }
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn situation(ctx: &Context, key: &ObjectKey, draining: bool) -> Option<Situation> {
    ctx.cache.cluster_snapshot(key).map(|snapshot| Situation::of(&snapshot, draining))
}

/// Comes back when this scheduler is no longer the one to ask.
async fn gone(ctx: &Context, key: &ObjectKey, wake: &Notify, target: &Target) {
    loop {
        wake.notified().await;
        if situation(ctx, key, false).and_then(|situation| situation.target).as_ref() != Some(target) {
            return;
        }
    }
}

fn announce(ctx: &Context, key: &ObjectKey, news: &Announcement) {
    if let Some(snapshot) = ctx.cache.cluster_snapshot(key) {
        ctx.announce(&*snapshot.cluster, news);
    }
}

fn source_word(source: Source) -> &'static str {
    match source {
        Source::Telemetry => "telemetry",
        Source::Standard => "standard",
    }
}
