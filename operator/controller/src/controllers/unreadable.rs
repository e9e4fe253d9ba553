//! Tells of objects that are there but cannot be read: they have no reconciliation that could.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::Reason;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::announce::Announcement;
use crate::cluster_cache::Unreadable;
use crate::context::Context;

/// The API server keeps Events for an hour.
const AGAIN: Duration = Duration::from_mins(30);
/// All that comes within this time is told together.
const TOGETHER: Duration = Duration::from_secs(1);

/// Tells of each while this process leads, and every half hour again, until `stop`.
pub async fn run(ctx: Arc<Context>, stop: CancellationToken) {
    stop.run_until_cancelled(tell(&ctx)).await;
}

async fn tell(ctx: &Context) {
    let (mut news, mut leading) = (ctx.cache.unreadable_news(), ctx.leadership.changes());
    let mut told: HashSet<u64> = HashSet::new();
    loop {
        let found = if ctx.leadership.is_leader() { ctx.cache.unreadable() } else { Vec::new() };
        for unreadable in found.iter().filter(|unreadable| !told.contains(&digest(unreadable))) {
            let message = format!("the object is ignored, because it cannot be read: {}", unreadable.error);
            let news = Announcement { reason: Reason::Unreadable, message, warning: true };
            ctx.announce_at(unreadable.object.clone(), &news);
        }
        told = found.iter().map(digest).collect();
        sleep(TOGETHER).await;
        tokio::select! {
            Ok(()) = news.changed() => {}
            Ok(()) = leading.changed() => {}
            () = sleep(AGAIN) => told.clear(),
        }
    }
}

/// A number for the object and its error.
fn digest(unreadable: &Unreadable) -> u64 {
    let Unreadable { object, error } = unreadable;
    let mut hasher = DefaultHasher::new();
    (&object.kind, &object.namespace, &object.name, &object.uid, error).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;
    use crate::context::tests::context;

    fn unreadable(name: &str) -> Unreadable {
        let object = ObjectReference {
            kind: Some("DaskCluster".to_owned()),
            namespace: Some("ns".to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        };
        Unreadable { object, error: "too large".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_told_once_and_again_while_it_lasts() {
        let (context, told) = context();
        let ctx = Arc::new(context);
        ctx.cache.add_unreadable("a", unreadable("a"));
        let stop = CancellationToken::new();
        let run = tokio::spawn(run(ctx.clone(), stop.clone()));
        let count = async || {
            sleep(3 * TOGETHER).await;
            let told = told.lock().unwrap();
            assert!(
                told.iter()
                    .all(|(type_, reason, _)| (type_.as_str(), reason.as_str()) == ("Warning", "Unreadable"))
            );
            told.len()
        };
        assert_eq!(count().await, 1);
        ctx.cache.add_unreadable("a", unreadable("a"));
        ctx.cache.add_unreadable("b", unreadable("b"));
        assert_eq!(count().await, 2);
        let text = ctx.metrics.render().unwrap();
        assert!(text.contains("problems_total{kind=\"DaskCluster\",reason=\"Unreadable\"} 2"), "{text}");
        stop.cancel();
        run.await.unwrap();
    }
}
