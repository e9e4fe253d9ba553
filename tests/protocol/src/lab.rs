//! Real schedulers and workers.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use testbed::python;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::cluster::Cluster;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab.py");

/// The Python of an environment with this release of Dask.
///
/// # Panics
/// When there is none to be had.
pub async fn python_with(release: &str) -> PathBuf {
    let requirement = format!("distributed=={release}");
    // It waits for downloads.
    let made = tokio::task::spawn_blocking(move || python::environment(&[&requirement])).await.unwrap();
    match made {
        Ok(environment) => environment.join("bin/python"),
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)),
    }
}

/// A real scheduler with real workers, in one process of its own that ends with this.
#[derive(Debug)]
pub struct Lab {
    orders: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
    host_port: String,
    release: [u64; 3],
    has_module: bool,
    _process: Child,
}

impl Lab {
    /// Starts a scheduler of this release with workers `w0`, `w1` and so on; `preload` are modules to load into each.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(release: &str, workers: usize, preload: &[&str]) -> Self {
        let mut process = Command::new(python_with(release).await)
            .arg(PROGRAM)
            .arg(json!({"workers": workers, "preload": preload}).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let mut replies = BufReader::new(process.stdout.take().unwrap()).lines();
        let hello = parse(replies.next_line().await.unwrap());
        let mut numbers = hello["release"].as_str().unwrap().split('.').map(|number| number.parse().unwrap());
        Self {
            orders,
            replies,
            host_port: hello["address"].as_str().unwrap().replace("tcp://", ""),
            release: std::array::from_fn(|_| numbers.next().unwrap()),
            has_module: !preload.is_empty(),
            _process: process,
        }
    }

    async fn order(&mut self, order: Value) -> Value {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        parse(self.replies.next_line().await.unwrap())
    }
}

fn parse(line: Option<String>) -> Value {
    let Some(line) = line else { panic!("the lab ended; its standard error says why") };
    serde_json::from_str(&line).unwrap()
}

impl Cluster for Lab {
    fn host_port(&self) -> String {
        self.host_port.clone()
    }

    fn release(&self) -> [u64; 3] {
        self.release
    }

    fn has_module(&self) -> bool {
        self.has_module
    }

    async fn store(&mut self, worker: &str, keys: u64) {
        self.order(json!({"do": "store", "worker": worker, "keys": keys})).await;
    }

    async fn occupy(&mut self, worker: &str) {
        self.order(json!({"do": "occupy", "worker": worker})).await;
    }

    async fn free(&mut self) {
        self.order(json!({"do": "free"})).await;
    }

    async fn settle(&mut self, worker: &str) {
        self.order(json!({"do": "settle", "worker": worker})).await;
    }

    async fn logged(&mut self, topic: &str) -> Vec<String> {
        let reply = self.order(json!({"do": "logged", "topic": topic})).await;
        reply["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    async fn repeated(&mut self) -> u64 {
        self.order(json!({"do": "repeated"})).await["count"].as_u64().unwrap()
    }
}
