//! Whether a container runs a Dask command to which flags can be appended.

use k8s_openapi::api::core::v1::Container;

/// What a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `dask scheduler`.
    Scheduler,
    /// `dask worker`.
    Worker,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Worker => "worker",
        }
    }
}

/// Init programs that run what follows their options.
const INIT_PROGRAMS: [&str; 3] = ["tini", "dumb-init", "catatonit"];
/// The entry point of Dask's own images, which runs its arguments.
const ENTRY_POINT: &str = "prepare.sh";

/// Whether the container's words are one Dask command, not a script, so that a flag at their end is the command's.
///
/// Without a `command` the image's entry point is unknown; one that is followed by a Dask command runs it.
#[must_use]
pub fn is_plain(container: &Container, role: Role) -> bool {
    let mut words = words(container).peekable();
    while let Some(&word) = words.peek() {
        let program = file_name(word);
        if INIT_PROGRAMS.contains(&program) {
            words.next();
            while words.next_if(|word| word.starts_with('-')).is_some() {}
        } else if program == ENTRY_POINT {
            words.next();
        } else {
            break;
        }
    }
    let word = role.word();
    let Some(program) = words.next().map(file_name) else { return false };
    let named = match program {
        "dask" => words.next() == Some(word),
        _ if program.starts_with("python") => {
            words.next() == Some("-m")
                && words.next().and_then(|module| module.strip_prefix("distributed.cli.dask_")) == Some(word)
        }
        _ => program.strip_prefix("dask-") == Some(word),
    };
    named && words.all(|word| word != "--")
}

/// All words, in the order in which they are run.
pub fn words(container: &Container) -> impl Iterator<Item = &str> {
    container.command.iter().flatten().chain(container.args.iter().flatten()).map(String::as_str)
}

/// Appends flags to the container's words.
pub fn append(container: &mut Container, flags: &[&str]) {
    container.args.get_or_insert_default().extend(flags.iter().map(|flag| (*flag).to_owned()));
}

fn file_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn container(command: &[&str], args: &[&str]) -> Container {
        let list = |words: &[&str]| {
            (!words.is_empty()).then(|| words.iter().map(|word| (*word).to_owned()).collect())
        };
        Container { command: list(command), args: list(args), ..Container::default() }
    }

    #[rstest]
    #[case::kubecluster(&[], &["dask-worker", "--name", "$(DASK_WORKER_NAME)", "--dashboard"])]
    #[case::documentation(&[], &["dask", "worker", "--name", "$(DASK_WORKER_NAME)"])]
    #[case::command(&["dask", "worker"], &["--nthreads", "2"])]
    #[case::command_alone(&["/opt/conda/bin/dask-worker", "tcp://s:8786"], &[])]
    #[case::tini(&["/usr/bin/tini", "-g", "--"], &["dask", "worker"])]
    #[case::entry_point(&["tini", "--", "/usr/bin/prepare.sh"], &["dask", "worker"])]
    #[case::module(&["python3.11", "-m", "distributed.cli.dask_worker"], &[])]
    fn commands_that_take_flags(#[case] command: &[&str], #[case] args: &[&str]) {
        assert!(is_plain(&container(command, args), Role::Worker));
        assert!(!is_plain(&container(command, args), Role::Scheduler));
    }

    #[rstest]
    #[case::nothing(&[], &[])]
    #[case::script(&["sh", "-c", "dask worker"], &[])]
    #[case::script_in_args(&[], &["bash", "-c", "pip install x && dask worker"])]
    #[case::other_arguments(&[], &["--nthreads", "2"])]
    #[case::end_of_options(&["dask", "worker"], &["--preload", "x.py", "--", "y"])]
    #[case::another_subcommand(&["dask", "config"], &["worker"])]
    #[case::another_program(&["dask-cuda-worker"], &[])]
    #[case::another_module(&["python", "-m", "mine.dask_worker"], &[])]
    #[case::python_script(&["python", "worker.py"], &[])]
    #[case::init_alone(&["tini", "-g", "--"], &[])]
    fn anything_else_is_left_alone(#[case] command: &[&str], #[case] args: &[&str]) {
        assert!(!is_plain(&container(command, args), Role::Worker));
    }

    #[rstest]
    #[case(&["dask", "scheduler"], &[], &["--x"])]
    #[case(&[], &["dask-scheduler", "--port", "1"], &["dask-scheduler", "--port", "1", "--x"])]
    fn flags_go_last(#[case] command: &[&str], #[case] args: &[&str], #[case] after: &[&str]) {
        let mut scheduler = container(command, args);
        append(&mut scheduler, &["--x"]);
        assert_eq!(scheduler, container(command, after));
    }
}
