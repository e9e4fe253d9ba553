//! `make demo`: from nothing to a Dask computation on a Kubernetes cluster, told step by step.

use std::{
    env, io,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use e2e_tests::{
    Error, Kubernetes,
    demo::{
        Failure, Teller,
        play::{self, Stage},
        prepare,
        settings::Settings,
        transcript::{self, Style, Surroundings},
    },
    diagnosis, manifest,
};

#[tokio::main]
async fn main() -> ExitCode {
    let style = if io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() {
        Style::Terminal
    } else {
        Style::Plain
    };
    let mut teller = Teller::new(io::stdout(), style);
    teller.say("\n  Dask on Kubernetes, from nothing\n\n");
    match demo(&mut teller).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_told) => ExitCode::FAILURE,
    }
}

async fn demo(teller: &mut Teller<impl Write>) -> Result<(), Failure> {
    let settings = Settings::read(|name| env::var(name).ok());
    let kubernetes = prepare::kubernetes(teller, &settings).await?;
    let result = on(teller, &settings, &kubernetes).await;
    if result.is_err() {
        teller.say("\n");
        let sections = diagnosis::diagnose(&kubernetes, kubernetes.namespace()).await;
        teller.say(&diagnosis::render(&sections));
        teller.say(&format!(
            "\nexport KUBECONFIG={}    # to look further\n",
            kubernetes.kubeconfig().display()
        ));
    }
    result
}

async fn on(
    teller: &mut Teller<impl Write>,
    settings: &Settings,
    kubernetes: &Kubernetes,
) -> Result<(), Failure> {
    let images = prepare::images(teller, settings, kubernetes).await?;
    prepare::operator(teller, kubernetes, &images).await?;
    let manifest =
        example(images.dask.as_deref()).map_err(|source| Failure { step: "DaskCluster", source })?;
    let stage = Stage { kubernetes, namespace: kubernetes.namespace(), manifest };
    let summary = play::play(teller, stage).await?;
    let surroundings = Surroundings {
        kubeconfig: kubernetes.kubeconfig().to_owned(),
        kubectl: (!in_path("kubectl")).then(|| kubernetes.kubectl_path().to_owned()),
        local: kubernetes.testbed().is_some(),
    };
    teller.say(&transcript::summary(&summary, &surroundings, teller.elapsed()));
    Ok(())
}

/// The example that everybody can apply, with another image if there is one to use.
fn example(image: Option<&str>) -> Result<serde_json::Value, Error> {
    let path: PathBuf = testbed::workspace::root().join("examples/cluster.yaml");
    let cluster = manifest::read(&path)?;
    Ok(match image {
        Some(image) => manifest::with_image(cluster, image),
        None => cluster,
    })
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir: PathBuf| Path::is_file(&dir.join(program)))
}
