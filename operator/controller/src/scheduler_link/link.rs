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

use super::absent::{Absent, expected};
use super::connect::{Connection, Dialer, LinkError};
use super::drain_executor::{Calls, Done};
use super::drains::Drains;
use super::fenced::Fenced;
use super::interest::Interest;
use super::matching::Candidates;
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
    /// UID of the cluster.
    cluster: String,
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
    /// Whether they were asked for since the link began, so that what was fenced before is known.
    looked: bool,
    fenced: Fenced,
    absent: Absent,
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

/// Pods of the cluster's workers, when a round began.
#[derive(Clone, Copy, Debug, Default)]
struct Pods {
    all: usize,
    /// Those of which a worker ought to be registered.
    expected: usize,
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
    /// The link of the cluster with this name and UID.
    pub(super) fn new(
        (key, cluster): (ObjectKey, String),
        ctx: Arc<Context>,
        dialer: Dialer,
        wake: Arc<Notify>,
    ) -> Self {
        Self {
            key,
            cluster,
            ctx,
            dialer,
            wake,
            connection: None,
            target: None,
            process: None,
            drains: Drains::default(),
            calls: Calls::default(),
            listed: None,
            looked: false,
            fenced: Fenced::default(),
            absent: Absent::default(),
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
                None => self.nobody_to_ask(situation.several.as_deref()),
                Some(target) => self.round(target, &situation).await,
            };
            self.wait(pause, &situation).await;
        }
    }

    fn situation(&self) -> Option<Situation> {
        let situation = situation(&self.ctx, &self.key, self.drains.is_active())?;
        // Another one of the same name gets a link of its own.
        Some(situation).filter(|situation| situation.cluster.as_ref() == Some(&self.cluster))
    }

    fn view(&self) -> Arc<LinkView> {
        self.ctx.links.view(&self.key, Some(&self.cluster))
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
        (self.fenced, self.absent) = (Fenced::default(), Absent::default());
    }

    /// No pod of the scheduler runs, or several do. Gives the time after which to look again.
    fn nobody_to_ask(&mut self, several: Option<&str>) -> Option<Duration> {
        let (view, now) = (self.view(), Timestamp::now());
        let (reason, message) = match several {
            None => (Reason::SchedulerNotRunning, "no pod of the scheduler runs"),
            Some(message) => (Reason::SeveralSchedulers, message),
        };
        let before = view.failure.as_ref().filter(|failure| failure.reason == reason);
        let since = before.map_or(now, |failure| failure.since);
        if before.is_none_or(|failure| failure.message != message) {
            // Of which of them an answer of before was is not known any more.
            let sample = view.sample.clone().filter(|_| several.is_none());
            let failure = LinkFailure { reason, message: message.to_owned(), since };
            self.publish(LinkView { asked: true, sample, failure: Some(failure) });
        }
        if several.is_none() {
            self.trouble = None;
            return None;
        }
        let trouble = self.trouble.get_or_insert(Trouble { since, failures: 0, told: false, costly: false });
        if trouble.told {
            return None;
        }
        let left = Duration::try_from(trouble.since + TOLD_AFTER - now).unwrap_or_default();
        if left.is_zero() {
            trouble.told = true;
            let news = Announcement { reason, message: message.to_owned(), warning: true };
            announce(&self.ctx, &self.key, &news);
            return None;
        }
        Some(left)
    }

    /// One round; gives the pause until the next. `None` stands for no end: only a change in the cache helps.
    async fn round(&mut self, target: &Target, situation: &Situation) -> Option<Duration> {
        let shrinking = situation.interest.shrinking || self.drains.is_active();
        let list = (shrinking || self.wants_list(situation)) && self.list_is_due();
        // Those that are there before the question: of a newer one no answer tells.
        let candidates = if list { self.candidates() } else { Candidates::default() };
        let wanted = Wanted {
            list,
            adaptive_target: situation.interest.adaptive_target,
            idleness: situation.interest.idleness,
        };
        let asked = Timestamp::now();
        let pods = self.pods(asked);
        // A question can take a minute; a scheduler that is gone need not be waited for.
        let (ctx, key, wake) = (self.ctx.clone(), self.key.clone(), self.wake.clone());
        let answers = tokio::select! {
            answers = self.ask(target, wanted, pods.all) => answers,
            () = gone(&ctx, &key, &wake, target) => {
                self.connection = None;
                return Some(Duration::ZERO);
            }
        };
        let pause = match answers {
            Ok(answers) => {
                self.ctx.metrics.scheduler_poll(source_word(answers.source));
                self.heard(&answers, asked, &candidates, situation, pods);
                let busy = answers.busy.unwrap_or(answers.idleness == Idleness::Busy);
                let Interest { replacing, adaptive_target, idleness, .. } = situation.interest;
                let watched = replacing || adaptive_target || idleness;
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

    fn pods(&self, now: Timestamp) -> Pods {
        let Some(snapshot) = self.ctx.cache.cluster_snapshot(&self.key) else { return Pods::default() };
        let all = snapshot.groups.iter().map(|group| group.pods().count()).sum();
        Pods { all, expected: expected(&snapshot, now) }
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
    fn heard(
        &mut self,
        answers: &Answers,
        asked: Timestamp,
        candidates: &Candidates,
        situation: &Situation,
        pods: Pods,
    ) {
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
        self.absent.count(answers.workers, pods.expected, now);
        if let Some((workers, ranking)) = &answers.list {
            let roster = Roster::new(asked, now, candidates, workers, ranking.as_deref());
            self.looked = true;
            self.listed = Some((Instant::now(), roster.members.clone()));
            let before = self.drains.progress();
            if let Some(target) = self.target.as_ref().filter(|_| self.ctx.leadership.is_leader()) {
                for batch in self.drains.look(&situation.pods, &roster, since, now) {
                    debug!(cluster = %self.key, how = ?batch.how, workers = ?batch.addresses(), "retiring workers");
                    self.calls.start(batch, &self.dialer, target, pods.all);
                }
            }
            self.fenced.look(candidates, &roster, &self.drains, now);
            self.absent.look(candidates, &roster.members, &self.drains, now);
            self.tell_drains(&before);
        } else if !self.drains.is_active() && !situation.interest.shrinking && !self.wants_list(situation) {
            self.listed = None;
        }
        self.recovered(answers.source);
        let sample = Sample {
            asked,
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
            fenced: self.fenced.pods(),
            absent: self.absent.pods(),
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
        let sample = self.view().sample.clone();
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
        if let Some(sample) = &self.view().sample {
            let sample = Sample { drains: self.drains.progress(), ..Sample::clone(sample) };
            let failure = self.view().failure.clone();
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
        let before = self.view();
        let news = News::between(&before, &view);
        self.ctx.links.publish(&self.key, &self.cluster, view);
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

    fn candidates(&self) -> Candidates {
        let snapshot = self.ctx.cache.cluster_snapshot(&self.key);
        snapshot.as_ref().map(Candidates::of).unwrap_or_default()
    }

    /// Whether the workers matter though none is to go.
    fn wants_list(&self, situation: &Situation) -> bool {
        situation.interest.replacing
            || !self.looked
            || self.is_new()
            || self.fenced.wants_list(Timestamp::now())
            || self.absent.wants_list(Timestamp::now())
    }

    fn is_new(&self) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.replaces && Timestamp::now() < process.since + NEW_SCHEDULER)
    }

    fn list_is_due(&self) -> bool {
        let telemetry = self.connection.as_ref().is_some_and(|connection| connection.telemetry == Some(true));
        self.listed
            .as_ref()
            .is_none_or(|(at, members)| at.elapsed() >= poll::list_interval(members.registered, telemetry))
    }

    /// Whether the pause ends because something changed. After a failure only another scheduler, or one that has become
    /// ready, is a reason: whoever does not answer, or answers too much, is not asked at every change in the cluster.
    fn is_urgent(&self, before: &Situation) -> bool {
        match (self.situation(), &self.trouble) {
            (Some(now), Some(trouble)) => {
                (&now.target, &now.several) != (&before.target, &before.several)
                    || (now.ready && !before.ready && !trouble.costly)
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
