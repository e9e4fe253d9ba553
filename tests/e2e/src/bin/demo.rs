//! `make demo`: from nothing to a Dask computation on a Kubernetes cluster, told step by step.

use std::{
    env, io,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use e2e_tests::{
    Kubernetes,
    demo::{
        Failure, Teller,
        play::{self, Stage},
        prepare,
        settings::Settings,
        transcript::{self, Style, Surroundings},
    },
    diagnosis,
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
    let settings = match Settings::read(|name| env::var(name).ok()) {
        Ok(settings) => settings,
        Err(missing) => {
            teller.say(&format!("  {missing}\n"));
            return ExitCode::FAILURE;
        }
    };
    match demo(&mut teller, &settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_told) => ExitCode::FAILURE,
    }
}

async fn demo(teller: &mut Teller<impl Write>, settings: &Settings) -> Result<(), Failure> {
    let kubernetes = prepare::kubernetes(teller, settings).await?;
    let result = on(teller, settings, &kubernetes).await;
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
    let stage = Stage { kubernetes, namespace: kubernetes.namespace(), image: &images.dask };
    let summary = play::play(teller, stage).await?;
    let surroundings = Surroundings {
        kubeconfig: kubernetes.kubeconfig().to_owned(),
        kubectl: (!in_path("kubectl")).then(|| kubernetes.kubectl_path().to_owned()),
        local: kubernetes.testbed().is_some(),
    };
    teller.say(&transcript::summary(&summary, &surroundings, teller.elapsed()));
    Ok(())
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir: PathBuf| Path::is_file(&dir.join(program)))
}
