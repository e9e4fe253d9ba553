//! The commands of `docs/migrate.md`, run as they are written there.

#![expect(clippy::expect_used, reason = "this is how a test fails")]

use std::path::{Path, PathBuf};

use e2e_tests::{Error, Kubernetes, command::Invocation, python_operator};
use testbed::{images, workspace};

const GUIDE: &str = include_str!("../../../../../docs/migrate.md");

/// Waits for pods to go, and installs.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

/// The guide, and where its commands run.
pub(super) struct Guide {
    kubeconfig: PathBuf,
    programs: PathBuf,
    chart: PathBuf,
}

impl Guide {
    /// For a shell in which `kubectl` and `helm` are those of this checkout, and the namespace is the current one.
    pub(super) async fn new(kubernetes: &Kubernetes, namespace: &str) -> Result<Self, Error> {
        let chart = python_operator::chart().await?;
        let kubeconfig = workspace::data_dir().join("helm/kubeconfig-migration");
        let read = |source| Error::Read { path: kubeconfig.clone(), source };
        std::fs::copy(kubernetes.kubeconfig(), &kubeconfig).map_err(read)?;
        let enter = format!("config set-context --current --namespace {namespace}");
        kubernetes.kubectl(&enter).env("KUBECONFIG", &kubeconfig).run().await?;
        let programs = kubernetes.kubectl_path().parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { kubeconfig, programs, chart })
    }

    /// Runs the commands of one step.
    pub(super) async fn follow(&self, part: &str, step: usize) -> Result<String, Error> {
        self.run(&commands(part, step)).await
    }

    /// Runs the commands of a step that is taken for each cluster.
    pub(super) async fn follow_for(
        &self,
        part: &str,
        step: usize,
        cluster: &str,
        workers: u32,
    ) -> Result<String, Error> {
        let commands = commands(part, step).replace("NAME", cluster);
        self.run(&commands.replace("--replicas=N", &format!("--replicas={workers}"))).await
    }

    async fn run(&self, commands: &str) -> Result<String, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = format!("{}:{}", self.programs.display(), path.to_string_lossy());
        let home = workspace::data_dir().join("helm");
        let mut shell = Invocation::new("bash").words("-euo pipefail -x -s").env("PATH", path);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            shell = shell.env(variable, &home);
        }
        let shell = shell.env("KUBECONFIG", &self.kubeconfig).in_dir(&workspace::root()).deadline(PATIENCE);
        Ok(shell.input(self.adapted(commands)).run().await?)
    }

    /// Only what every reader has to fill in, and what this machine lacks: upstream's chart repository.
    fn adapted(&self, commands: &str) -> String {
        let (image, tag) = images::OPERATOR.rsplit_once(':').expect("the image has a tag");
        commands
            .replace("REGISTRY/dask-operator", image)
            .replace("image.tag=TAG", &format!("image.tag={tag}"))
            .replace(
                "dask-kubernetes-operator --repo https://helm.dask.org",
                &self.chart.display().to_string(),
            )
    }
}

/// The block of commands of a step, counted from 1, below the heading of a part.
fn commands(part: &str, step: usize) -> String {
    let after = GUIDE.split(&format!("\n## {part}\n")).nth(1).expect("the guide has this part");
    let text = after.split("\n## ").next().unwrap_or_default();
    let block = text.split("```console\n").nth(step).expect("the part has this step");
    block
        .split("```")
        .next()
        .unwrap_or_default()
        .lines()
        .fold(String::new(), |text, line| text + line.trim_start() + "\n")
}

#[test]
fn steps_are_found_in_the_guide() {
    assert!(commands("There", 1).starts_with("kubectl scale deployment dask-kubernetes-operator "));
    assert!(commands("There", 2).contains("--take-ownership"));
    assert!(commands("Back", 1).contains("\nkubectl scale daskworkergroup --all --replicas=0\n"));
    assert!(commands("Back", 3).starts_with("kubectl scale daskcluster NAME --replicas=N\n"));
    assert_eq!(commands("Back", 4).lines().filter(|line| !line.is_empty()).count(), 1);
}
