//! Which pod each registered worker is of. Pure.
//!
//! The scheduler knows workers by name and address, Kubernetes knows pods. Neither is sure: a worker may listen at an
//! address that is not its pod's (a Service, a second interface, IPv4 where the pod's first address is IPv6), several
//! pods may have one address (`hostNetwork`), and names are the user's. So names are tried first, then addresses, and
//! a worker that fits no pod makes all pods without workers *unknown*: one of them may be its own.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use dask_operator_api::labels::WORKER;
use dask_protocol::WorkerState;
use kube::ResourceExt;

use crate::cluster_cache::records::{DeploymentRecord, PodRecord, PodState};
use crate::cluster_cache::snapshot::ClusterSnapshot;

/// Hexadecimal digits at the end of a worker's name, for workers of this operator and of the Python operator.
const DIGITS: usize = 10;

/// A pod that registered workers may be of.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) pod: Arc<PodRecord>,
    /// The Deployment it belongs to, if the Python operator made it: its worker has the Deployment's name.
    pub(super) deployment: Option<Arc<DeploymentRecord>>,
}

impl Candidate {
    /// Whether no process of it runs or will run, so that its address may be another's by now.
    fn is_over(&self) -> bool {
        self.pod.state == PodState::Failed || (self.pod.state == PodState::Terminating && !self.pod.running)
    }
}

/// All pods of a cluster's groups, those on their way out as well.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    pub(super) pods: Vec<Candidate>,
    /// What the names of workers of each group begin with, such as `simple-default-worker`.
    pub(super) prefixes: HashSet<String>,
}

impl Candidates {
    /// Those of a cluster.
    pub(super) fn of(snapshot: &ClusterSnapshot) -> Self {
        let mut all = Self::default();
        for members in &snapshot.groups {
            all.prefixes.insert(format!("{}-{WORKER}", members.group.name_any()));
            all.pods
                .extend(members.workers.iter().map(|pod| Candidate { pod: pod.clone(), deployment: None }));
            for worker in &members.legacy {
                let deployment = Some(&worker.deployment);
                let pods = worker.pods.iter().cloned();
                all.pods.extend(pods.map(|pod| Candidate { pod, deployment: deployment.cloned() }));
            }
        }
        all
    }
}

/// Whose a registered worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The pod with this index.
    Pod(usize),
    /// By its name it is of a group of this cluster, but its pod is gone, or one of several: it is no other pod's.
    Elsewhere,
    /// It fits no pod.
    Nowhere,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Matching {
    /// For each worker.
    pub(super) places: Vec<Place>,
    /// For each pod: whether it is not known if it has workers, unless some were matched to it.
    pub(super) unclear: Vec<bool>,
}

/// Tells whose each worker is.
pub(super) fn matching(candidates: &Candidates, workers: &[WorkerState]) -> Matching {
    let index = Index::new(candidates);
    let mut unclear = vec![false; candidates.pods.len()];
    let places: Vec<Place> = workers.iter().map(|worker| index.place(worker, &mut unclear)).collect();
    if places.contains(&Place::Nowhere) {
        for (unclear, candidate) in unclear.iter_mut().zip(&candidates.pods) {
            // What never ran, or has ended, has no worker.
            *unclear |= candidate.pod.running && !candidate.is_over();
        }
    }
    Matching { places, unclear }
}

/// Pods by all that their workers may be known by.
struct Index<'a> {
    candidates: &'a Candidates,
    names: HashMap<&'a str, Vec<usize>>,
    addresses: HashMap<IpAddr, Vec<usize>>,
}

impl<'a> Index<'a> {
    fn new(candidates: &'a Candidates) -> Self {
        let (mut names, mut addresses) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (number, candidate) in candidates.pods.iter().enumerate() {
            let pod = &candidate.pod;
            names.entry(&*pod.name).or_default().push(number);
            if let Some(deployment) = &candidate.deployment {
                names.entry(deployment.name.as_str()).or_default().push(number);
            }
            for address in pod.addresses().filter_map(ip) {
                let pods = addresses.entry(address).or_default();
                if pods.last() != Some(&number) {
                    pods.push(number);
                }
            }
        }
        Self { candidates, names, addresses }
    }

    fn place(&self, worker: &WorkerState, unclear: &mut [bool]) -> Place {
        // Nothing can be asked of it, so it cannot be drained with a pod either.
        if worker.address.is_empty() {
            return Place::Nowhere;
        }
        let address = ip(host_of(&worker.address));
        if let Some(named) = self.named(&worker.name) {
            if let Some(pod) = self.one_of(named, address) {
                return Place::Pod(pod);
            }
            for pod in named {
                unclear[*pod] |= !self.candidates.pods[*pod].is_over();
            }
            return Place::Elsewhere;
        }
        if self.is_name_of_a_worker(&worker.name) {
            return Place::Elsewhere;
        }
        // A worker that was given no name has its own or its nanny's address for one.
        let own = worker.name.contains("://").then(|| ip(host_of(&worker.name))).flatten();
        address.and_then(|ip| self.at(ip)).or_else(|| self.at(own?)).map_or(Place::Nowhere, Place::Pod)
    }

    /// The pods whose worker may have this name. Dask appends `-0`, `-1`, … where one command starts several workers.
    fn named(&self, name: &str) -> Option<&Vec<usize>> {
        self.names.get(name).or_else(|| self.names.get(without_number(name)?))
    }

    /// The one of these pods that has the address; else the one of them that is not over.
    fn one_of(&self, pods: &[usize], address: Option<IpAddr>) -> Option<usize> {
        let there = address.and_then(|address| self.addresses.get(&address));
        let here = pods.iter().filter(|pod| there.is_some_and(|there| there.contains(pod)));
        only(here).or_else(|| self.only_live(pods)).or_else(|| only(pods.iter()))
    }

    /// The one pod with this address.
    fn at(&self, address: IpAddr) -> Option<usize> {
        let pods = self.addresses.get(&address)?;
        let any_live = pods.iter().any(|pod| !self.candidates.pods[*pod].is_over());
        if any_live { self.only_live(pods) } else { only(pods.iter()) }
    }

    fn only_live(&self, pods: &[usize]) -> Option<usize> {
        only(pods.iter().filter(|pod| !self.candidates.pods[**pod].is_over()))
    }

    /// Whether a worker of one of the cluster's groups is called like this.
    fn is_name_of_a_worker(&self, name: &str) -> bool {
        let is_one = |name: &str| {
            name.rsplit_once('-').is_some_and(|(prefix, digits)| {
                digits.len() == DIGITS
                    && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
                    && self.candidates.prefixes.contains(prefix)
            })
        };
        is_one(name) || without_number(name).is_some_and(is_one)
    }
}

fn only<'n>(mut numbers: impl Iterator<Item = &'n usize>) -> Option<usize> {
    numbers.next().copied().filter(|_| numbers.next().is_none())
}

/// `w-1` → `w`.
fn without_number(name: &str) -> Option<&str> {
    let (name, number) = name.rsplit_once('-')?;
    (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then_some(name)
}

/// An IP address in the one form in which it is compared: IPv4 as such, without a zone.
fn ip(text: &str) -> Option<IpAddr> {
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// The host of a Dask address: `tcp://10.0.0.7:40123` → `10.0.0.7`, `tls://[fd00::7]:40123` → `fd00::7`.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
