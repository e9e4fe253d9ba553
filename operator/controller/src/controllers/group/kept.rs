//! Why a worker that is to go is kept, in words for the condition `Scaling`. Pure.

use dask_operator_api::Reason;

use super::removal::Finding;
use crate::scheduler_link::{LinkFailure, Members};

/// The scheduler leaves these out of its ranking.
pub(super) fn protected(names: &[&str]) -> Option<Finding> {
    let first = names.iter().min()?;
    let message = format!(
        "worker \"{first}\" is kept: it takes part in a shuffle or runs a task that left the pool, and goes when that is \
         over{}",
        match names.len() {
            1 => String::new(),
            count => format!("; so are {} more", count - 1),
        }
    );
    Some(Finding::new(Reason::WorkerProtected, message))
}

/// Which registered workers are this one's cannot be told: what is the matter, and the cure.
pub(super) fn unknown(name: &str, members: &Members) -> String {
    format!(
        "it is not known which of the scheduler's workers is \"{name}\": {} fits no pod by name or address, and may be \
         its own; start workers with --name $(DASK_WORKER_NAME), or delete the pod by hand if nothing on it is needed",
        members.unmatched.words()
    )
}

/// `count` workers wait for a scheduler that does not answer.
pub(super) fn unanswered(failure: &LinkFailure, count: usize) -> Finding {
    let message = format!(
        "{}; {count} workers are to go and are kept until the scheduler confirms that nothing is lost with them; if it is \
         lost for good, delete its pod",
        failure.message
    );
    Finding::new(Reason::DrainUnconfirmed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_name_is_named() {
        assert_eq!(protected(&[]), None);
        let finding = protected(&["w-2", "w-1", "w-3"]).unwrap();
        assert_eq!(finding.reason, Reason::WorkerProtected);
        assert!(finding.message.starts_with("worker \"w-1\" is kept"), "{}", finding.message);
        assert!(finding.message.ends_with("; so are 2 more"), "{}", finding.message);
    }

    #[test]
    fn pod_and_worker_are_named_with_the_cure() {
        let mut members = Members::default();
        members.unmatched.add("mine", "tcp://10.96.0.1:4040");
        let words = unknown("w-1", &members);
        assert!(
            words.contains("\"w-1\"") && words.contains("worker \"mine\" at tcp://10.96.0.1:4040"),
            "{words}"
        );
        assert!(words.contains("--name $(DASK_WORKER_NAME)"), "{words}");
    }
}
