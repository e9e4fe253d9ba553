//! Provisional by the lead.
use dask_operator::settings::Settings;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider().install_default().ok();
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let settings = Settings::from_arguments(std::env::args_os().skip(2))?;
    let client = kube::Client::try_default().await?;
    let token = tokio_util::sync::CancellationToken::new();
    dask_operator::run::run(client, settings, token).await
}
