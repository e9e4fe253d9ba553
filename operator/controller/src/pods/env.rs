//! Environment variables that Dask needs.

use dask_operator_api::address::SchedulerAddress;
use k8s_openapi::api::core::v1::{EnvVar, PodSpec};

/// Name under which a worker registers with its scheduler.
pub const WORKER_NAME: &str = "DASK_WORKER_NAME";
/// Address that workers and clients connect to.
pub const SCHEDULER_ADDRESS: &str = "DASK_SCHEDULER_ADDRESS";

/// Variables of a worker, in the order in which they are appended.
#[must_use]
pub fn of_worker(name: &str, scheduler: &SchedulerAddress) -> Vec<EnvVar> {
    vec![variable(WORKER_NAME, name), variable(SCHEDULER_ADDRESS, &scheduler.to_string())]
}

/// Variables of a job's runner.
#[must_use]
pub fn of_runner(scheduler: &SchedulerAddress) -> Vec<EnvVar> {
    vec![variable(SCHEDULER_ADDRESS, &scheduler.to_string())]
}

fn variable(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

/// Appends the variables to every container, after the user's own; one that the user set is left alone.
///
/// Init containers get nothing, as with dask-kubernetes: they may run images that know nothing of Dask.
pub fn append(pod: &mut PodSpec, variables: &[EnvVar]) {
    for container in &mut pod.containers {
        let env = container.env.get_or_insert_default();
        for variable in variables {
            if env.iter().all(|own| own.name != variable.name) {
                env.push(variable.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Container;

    use super::*;

    fn container(name: &str, env: Option<Vec<EnvVar>>) -> Container {
        Container { name: name.to_owned(), env, ..Container::default() }
    }

    fn names(container: &Container) -> Vec<&str> {
        container.env.iter().flatten().map(|variable| variable.name.as_str()).collect()
    }

    #[test]
    fn variables_follow_the_users_in_every_container() {
        let mut pod = PodSpec {
            containers: vec![
                container("worker", Some(vec![variable("WORKER_ENV", "x")])),
                container("sidecar", None),
            ],
            init_containers: Some(vec![container("init", None)]),
            ..PodSpec::default()
        };
        append(&mut pod, &of_worker("w-1", &SchedulerAddress::new("s", "ns", 8786)));
        assert_eq!(names(&pod.containers[0]), ["WORKER_ENV", WORKER_NAME, SCHEDULER_ADDRESS]);
        assert_eq!(names(&pod.containers[1]), [WORKER_NAME, SCHEDULER_ADDRESS]);
        assert_eq!(names(&pod.init_containers.unwrap()[0]), [""; 0]);
    }

    #[test]
    fn what_the_user_set_wins() {
        let own = variable(WORKER_NAME, "test-worker");
        let mut pod =
            PodSpec { containers: vec![container("worker", Some(vec![own.clone()]))], ..PodSpec::default() };
        append(&mut pod, &of_worker("w-1", &SchedulerAddress::new("s", "ns", 8786)));
        assert_eq!(pod.containers[0].env.as_ref().unwrap()[0], own);
        assert_eq!(names(&pod.containers[0]), [WORKER_NAME, SCHEDULER_ADDRESS]);
    }
}
