use std::sync::Arc;

use dask_operator::backoff::Backoff;
use dask_operator::cluster_cache::{ClusterCache, Scope, watch};
use dask_operator::context::Context;
use dask_operator::controllers::{Obstacles, status_writer::StatusMemory};
use dask_operator::events::{EventSettings, EventSink};
use dask_operator::leader::{Election, Leadership, LeaseLocation, Timing};
use dask_operator::settings::{NamespaceSelection, Settings};
use dask_operator::telemetry::Metrics;
use dask_operator::writer::{Limits, Writer};
use kube::Client;
use tokio_util::sync::CancellationToken;

pub async fn run(
    client: Client,
    settings: Settings,
    shutdown: CancellationToken,
    metrics: Metrics,
    ready: Arc<std::sync::atomic::AtomicBool>,
) -> Result<(), ()> {
    let (leadership, election) = if settings.leader_election() {
        let loc = LeaseLocation {
            namespace: settings.lease_namespace().unwrap(),
            name: settings.lease_name.clone(),
        };
        let (e, l) = Election::new(client.clone(), loc, &settings.identity(), Timing::default());
        (l, Some(e))
    } else {
        (Leadership::always(), None)
    };
    let cache = ClusterCache::new(metrics.clone());
    let writer = Writer::new(client.clone(), leadership.clone(), metrics.clone(), Limits::default());
    let events_client = client.clone();
    let (events, _task) = EventSink::start(
        EventSettings {
            enabled: settings.events_enabled,
            level: settings.events_level,
            reporter: settings.identity(),
        },
        leadership.clone(),
        metrics.clone(),
        move |event: k8s_openapi::api::events::v1::Event| {
            let client = events_client.clone();
            async move {
                let ns = event.metadata.namespace.clone().unwrap_or_default();
                kube::Api::namespaced(client, &ns)
                    .create(&kube::api::PostParams::default(), &event)
                    .await
                    .map(|_| ())
            }
        },
    );
    let scope = match settings.namespaces() {
        NamespaceSelection::Names(n) => Scope::Namespaces(n.into_iter().collect()),
        _ => Scope::All,
    };
    let _watches = watch(&client, &scope, &cache, &shutdown);
    cache.wait_ready().await;
    ready.store(true, std::sync::atomic::Ordering::SeqCst);
    let ctx = Arc::new(Context {
        cache: cache.clone(),
        writer,
        events,
        metrics: metrics.clone(),
        settings: Arc::new(settings),
        leadership,
        backoff: Backoff::new(metrics),
        cluster_obstacles: Obstacles::default(),
        group_obstacles: Obstacles::default(),
        cluster_status: StatusMemory::default(),
        group_status: StatusMemory::default(),
    });
    let elect = async {
        if let Some(e) = election {
            e.run(shutdown.clone()).await
        }
    };
    tokio::join!(
        dask_operator::controllers::cluster::run(cache.cluster_store(), ctx.clone(), shutdown.clone()),
        dask_operator::controllers::group::run(cache.group_store(), ctx.clone(), shutdown.clone()),
        elect
    );
    Ok(())
}
