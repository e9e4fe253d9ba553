//! Whether a container runs a Dask command, to which flags can be appended, and in which of its forms.

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

/// How a Dask command is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `dask-worker`, which distributed dropped in 2026.6.
    Script,
    /// `dask worker`.
    Subcommand,
    /// `python -m distributed.cli.dask_worker`, which every release has.
    Module,
}

/// A Dask command among the words of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// How it is written.
    pub form: Form,
    /// Where its first word is.
    pub start: usize,
    /// Where its options begin.
    pub options: usize,
}

/// Init programs that run what follows their options.
const INIT_PROGRAMS: [&str; 3] = ["tini", "dumb-init", "catatonit"];
/// The entry point of Dask's own images, which runs its arguments.
const ENTRY_POINT: &str = "prepare.sh";
/// Python modules of the commands, without the command's name.
const MODULES: &str = "distributed.cli.dask_";

/// The Dask command that the words run, if they are one and not a script.
///
/// Without a `command` the image's entry point is unknown; one that is followed by a Dask command runs it.
pub fn find<'a>(words: impl Iterator<Item = &'a str>, role: Role) -> Option<Invocation> {
    let mut words = words.enumerate().peekable();
    while let Some(&(_, word)) = words.peek() {
        let program = file_name(word);
        if INIT_PROGRAMS.contains(&program) {
            words.next();
            while words.next_if(|(_, word)| word.starts_with('-')).is_some() {}
        } else if program == ENTRY_POINT {
            words.next();
        } else {
            break;
        }
    }
    let (start, program) = words.next()?;
    let program = file_name(program);
    let mut next = || words.next().map(|(_, word)| word);
    let form = if program == "dask" {
        (next()? == role.word()).then_some(Form::Subcommand)
    } else if program.starts_with("python") {
        let module = (next()? == "-m").then(next).flatten()?;
        (module.strip_prefix(MODULES)? == role.word()).then_some(Form::Module)
    } else {
        (program.strip_prefix("dask-")? == role.word()).then_some(Form::Script)
    }?;
    let length = match form {
        Form::Script => 1,
        Form::Subcommand => 2,
        Form::Module => 3,
    };
    Some(Invocation { form, start, options: start + length })
}

/// The Dask command of a container, if its words are one.
#[must_use]
pub fn of(container: &Container, role: Role) -> Option<Invocation> {
    find(words(container), role)
}

/// Whether the container's words are one Dask command, so that a flag at their end is the command's.
#[must_use]
pub fn is_plain(container: &Container, role: Role) -> bool {
    of(container, role).is_some_and(|found| words(container).skip(found.options).all(|word| word != "--"))
}

/// The container that runs Dask: the one with a Dask command, else the first.
#[must_use]
pub fn main_container(containers: &[Container], role: Role) -> Option<&Container> {
    containers.iter().find(|container| of(container, role).is_some()).or_else(|| containers.first())
}

/// Starts the command that the image lacks as a module; returns whether there was one to replace.
///
/// The interpreter is the one beside the command, if the command was named by its path.
pub fn use_module(container: &mut Container, role: Role) -> bool {
    let Some(Invocation { form: Form::Script, start, .. }) = of(container, role) else { return false };
    let command = container.command.as_ref().map_or(0, Vec::len);
    let (list, index) = if start < command {
        (container.command.get_or_insert_default(), start)
    } else {
        (container.args.get_or_insert_default(), start - command)
    };
    let Some(word) = list.get(index) else { return false };
    let folder = &word[..word.len() - file_name(word).len()];
    let module = [format!("{folder}python"), "-m".to_owned(), format!("{MODULES}{}", role.word())];
    list.splice(index..=index, module);
    true
}

/// All words, in the order in which they are run.
pub fn words(container: &Container) -> impl Iterator<Item = &str> {
    container.command.iter().flatten().chain(container.args.iter().flatten()).map(String::as_str)
}

/// The values of an option, whether written `--option value` or `--option=value`; of the last one, Dask takes.
pub fn values<'a>(container: &'a Container, option: &'a str) -> impl Iterator<Item = &'a str> {
    let next = words(container).skip(1).map(Some).chain([None]);
    words(container).zip(next).filter_map(move |(word, next)| {
        let rest = word.strip_prefix(option)?;
        if rest.is_empty() { next } else { rest.strip_prefix('=') }
    })
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

    #[rstest]
    #[case::kubecluster(&[], &["dask-worker", "--name", "n"],
        &[], &["python", "-m", "distributed.cli.dask_worker", "--name", "n"])]
    #[case::by_path(&["/opt/conda/bin/dask-worker"], &["s:1"],
        &["/opt/conda/bin/python", "-m", "distributed.cli.dask_worker"], &["s:1"])]
    #[case::behind_init(&["tini", "-g", "--"], &["prepare.sh", "dask-worker", "--", "x"],
        &["tini", "-g", "--"], &["prepare.sh", "python", "-m", "distributed.cli.dask_worker", "--", "x"])]
    fn the_module_takes_the_same_arguments(
        #[case] command: &[&str],
        #[case] args: &[&str],
        #[case] command_after: &[&str],
        #[case] args_after: &[&str],
    ) {
        let mut worker = container(command, args);
        assert!(use_module(&mut worker, Role::Worker));
        assert_eq!(worker, container(command_after, args_after));
        assert!(!use_module(&mut worker, Role::Worker), "it is one already");
        assert_eq!(of(&worker, Role::Worker).map(|found| found.form), Some(Form::Module));
    }

    #[rstest]
    #[case(&["dask", "worker"])]
    #[case(&["dask-scheduler"])]
    #[case(&["sh", "-c", "dask-worker"])]
    #[case(&["dask-cuda-worker"])]
    fn nothing_else_becomes_a_module(#[case] command: &[&str]) {
        let mut worker = container(command, &[]);
        assert!(!use_module(&mut worker, Role::Worker));
        assert_eq!(worker, container(command, &[]));
    }

    #[test]
    fn values_of_options() {
        let scheduler =
            container(&["dask", "scheduler", "--port", "1"], &["--port=2", "--portal", "3", "--port"]);
        assert_eq!(values(&scheduler, "--port").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn the_main_container_is_the_one_with_the_command() {
        let containers = [container(&["envoy"], &[]), container(&[], &["dask", "worker"])];
        assert_eq!(main_container(&containers, Role::Worker), Some(&containers[1]));
        assert_eq!(main_container(&containers, Role::Scheduler), Some(&containers[0]));
        assert_eq!(main_container(&[], Role::Worker), None);
    }
}
