//! Provisional wiring by the lead, to be replaced by the real one.
use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::cluster_cache::{ClusterCache, Scope, watch};
use crate::context::Context;
use crate::events::{EventSettings, EventSink};
use crate::leader::Leadership;
use crate::settings::Settings;
use crate::telemetry::Metrics;
use crate::writer::{Limits, Writer};

pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let metrics = Metrics::new()?;
    let leadership = Leadership::always();
    let cache = ClusterCache::new(metrics.clone());
    let writer = Writer::new(client.clone(), leadership.clone(), metrics.clone(), Limits::default());
    let events_client = client.clone();
    let (events, _task) = EventSink::start(
        EventSettings { enabled: settings.events_enabled, level: settings.events_level, reporter: settings.identity() },
        leadership.clone(),
        metrics.clone(),
        move |event: k8s_openapi::api::events::v1::Event| {
            let client = events_client.clone();
            async move {
                let ns = event.metadata.namespace.clone().unwrap_or_default();
                kube::Api::namespaced(client, &ns).create(&kube::api::PostParams::default(), &event).await.map(|_| ())
            }
        },
    );
    let _watches = watch(&client, &Scope::All, &cache, &shutdown);
    cache.wait_ready().await;
    let ctx = Arc::new(Context {
        cache: cache.clone(),
        writer,
        events,
        metrics: metrics.clone(),
        settings: Arc::new(settings),
        leadership,
        backoff: Backoff::new(metrics),
        cluster_obstacles: crate::controllers::Obstacles::default(),
        group_obstacles: crate::controllers::Obstacles::default(),
        cluster_status: crate::controllers::status_writer::StatusMemory::default(),
        group_status: crate::controllers::status_writer::StatusMemory::default(),
    });
    tokio::join!(
        crate::controllers::cluster::run(cache.cluster_store(), ctx.clone(), shutdown.clone()),
        crate::controllers::group::run(cache.group_store(), ctx.clone(), shutdown.clone()),
    );
    Ok(())
}
