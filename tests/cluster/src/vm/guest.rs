//! One virtual machine: started, watched, and ended in time.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Error, Release, dir, release::Root};
use crate::{state, wait};

/// A guest that is emulated on two busy cores needs ten minutes; what takes three times as long hangs.
const TIME_LIMIT: Duration = Duration::from_mins(30);

/// Longer than elsewhere, by this factor, everything may take in a guest.
const GUEST_PATIENCE: u32 = 6;

/// A kernel says its version within a second where hardware runs it.
const KERNEL_PATIENCE: Duration = Duration::from_secs(15);

/// Memory of a guest in MiB: control plane, two nodes and Dask take half of it, the rest holds their files.
const MEMORY: &str = "6144";

/// What the first line of a kernel contains.
const FIRST_LINE: &str = "Linux version";

/// The script's words for us.
const MARK: &str = "vm: ";

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accelerator {
    Kvm,
    Emulator,
}

impl Accelerator {
    /// KVM where it boots the kernel: that its device is there does not say so, for example inside another guest.
    fn for_kernel(kernel: &Path, scratch: &Path) -> Self {
        if !Path::new("/dev/kvm").exists() {
            return Self::Emulator;
        }
        let console = scratch.join("kvm.log");
        let mut machine = Machine::new(Self::Kvm, kernel, scratch);
        machine.serial(&console).append("console=ttyS0 earlyprintk=ttyS0 panic=-1");
        let Ok(mut running) = machine.start() else { return Self::Emulator };
        let said = || fs::read_to_string(&console).unwrap_or_default().contains(FIRST_LINE);
        let settled = wait::until(KERNEL_PATIENCE, || said() || running.has_ended());
        if settled && said() { Self::Kvm } else { Self::Emulator }
    }

    fn arguments(self) -> &'static str {
        match self {
            Self::Kvm => "-accel kvm -cpu host",
            // The oldest processor on which numpy runs: newer instructions take longer to emulate.
            Self::Emulator => "-accel tcg,thread=multi -cpu Nehalem",
        }
    }
}

/// A command line of qemu.
#[derive(Debug)]
struct Machine {
    command: Command,
}

impl Machine {
    fn new(accelerator: Accelerator, kernel: &Path, scratch: &Path) -> Self {
        // When this process is killed, the kernel ends the machine, too.
        let mut command = Command::new("setpriv");
        command.args("--pdeathsig KILL qemu-system-x86_64 -machine q35 -smp 2 -m".split(' ')).arg(MEMORY);
        command.args(accelerator.arguments().split(' '));
        command.args("-display none -nodefaults -no-reboot -nic none -kernel".split(' ')).arg(kernel);
        // What a guest writes on its first disk goes to a file there.
        command.env("TMPDIR", scratch).stdin(Stdio::null()).stdout(Stdio::null());
        Self { command }
    }

    fn initrd(&mut self, path: &Path) -> &mut Self {
        self.command.arg("-initrd").arg(path);
        self
    }

    fn append(&mut self, line: &str) -> &mut Self {
        self.command.args(["-append", line]);
        self
    }

    fn serial(&mut self, log: &Path) -> &mut Self {
        self.command.arg("-serial").arg(format!("file:{}", log.display()));
        self
    }

    fn disk(&mut self, image: &Path, option: &str) -> &mut Self {
        self.command.arg("-drive").arg(format!("file={},if=virtio,format=raw,{option}", image.display()));
        self
    }

    fn start(&mut self) -> io::Result<Running> {
        self.command.spawn().map(|child| Running { child })
    }
}

/// A machine that runs. It ends with this handle.
#[derive(Debug)]
struct Running {
    child: Child,
}

impl Running {
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Boots a release with the disk of what is tested, and waits for the verdict. Its logs stay only if it fails.
pub(super) fn run(release: Release, root: &Root, payload: &Path, scratch: &Path) -> Result<(), Error> {
    let logs = dir().join("log");
    state::make_dir(&logs)?;
    let log = |kind: &str| logs.join(format!("{}-{kind}.log", release.name()));
    let (console, progress) = (log("console"), log("progress"));
    for old in [&console, &progress] {
        // Only one of an earlier run can be there.
        let _ = fs::remove_file(old);
    }
    let accelerator = Accelerator::for_kernel(&root.kernel(), scratch);
    tracing::info!("{release} starts with {accelerator:?}");
    let mut machine = Machine::new(accelerator, &root.kernel(), scratch);
    machine
        .initrd(&root.initrd())
        .append(&format!(
            "root=/dev/vda rw console=ttyS0 mitigations=off systemd.mask=timers.target testbed.patience={}",
            wait::patience(Duration::from_secs(GUEST_PATIENCE.into())).as_secs().min(100)
        ))
        .disk(&root.disk(), "snapshot=on")
        .disk(payload, "readonly=on")
        .serial(&console)
        .serial(&progress);
    let mut running = machine.start().map_err(|source| Error::File {
        verb: "start",
        path: PathBuf::from("qemu-system-x86_64"),
        source,
    })?;
    let mut script = Progress::default();
    let start = Instant::now();
    let ended = loop {
        // First whether it has ended: then nothing more can be said after the look.
        let ended = running.has_ended();
        for line in script.new_lines(&fs::read(&progress).unwrap_or_default()) {
            tracing::info!("{release}: {line}");
        }
        if ended || start.elapsed() >= wait::patience(TIME_LIMIT) {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    match verdict(&script.said, ended) {
        Ok(()) => {
            for log in [&console, &progress] {
                // Nobody misses them.
                let _ = fs::remove_file(log);
            }
            Ok(())
        }
        Err(reason) => Err(Error::Failed { release: release.title(), reason, progress, console }),
    }
}

/// Finds the script's words for us in a log that grows.
#[derive(Debug, Default)]
struct Progress {
    read: usize,
    said: Vec<String>,
}

impl Progress {
    /// What was said since the last call. A line without its end waits for it.
    fn new_lines(&mut self, log: &[u8]) -> Vec<String> {
        let new = log.get(self.read..).unwrap_or_default();
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole;
        let text = String::from_utf8_lossy(&new[..whole]).into_owned();
        let lines: Vec<_> =
            text.lines().filter_map(|line| line.trim_end().strip_prefix(MARK)).map(str::to_owned).collect();
        self.said.extend(lines.iter().cloned());
        lines
    }
}

/// The last word counts, and only from a machine that turned itself off.
fn verdict(said: &[String], ended: bool) -> Result<(), String> {
    let last = said.last().map_or("nothing", String::as_str);
    match (last, last.strip_prefix("FAIL ")) {
        ("PASS", _) if ended => Ok(()),
        (_, Some(step)) => Err(format!("step {step:?}")),
        (_, None) if ended => Err(format!("the machine ended without a verdict; its last word was {last:?}")),
        (_, None) => Err(format!(
            "no verdict within {} min; its last word was {last:?}",
            wait::patience(TIME_LIMIT).as_secs() / 60
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn only_whole_lines_of_the_script_count_and_each_once() {
        let mut progress = Progress::default();
        assert_eq!(progress.new_lines(b"noise\nvm: 1 s: up\r\nvm: 2 s: lo"), ["1 s: up"]);
        assert_eq!(progress.new_lines(b"noise\nvm: 1 s: up\r\nvm: 2 s: load\n"), ["2 s: load"]);
        assert_eq!(progress.said, ["1 s: up", "2 s: load"]);
    }

    #[test]
    fn only_the_last_word_of_a_machine_that_ended_is_a_pass() {
        assert_eq!(verdict(&said(&["up", "PASS"]), true), Ok(()));
        for (words, ended, reason) in [
            (&["up", "FAIL down"] as &[_], true, "step \"down\""),
            (&["PASS", "more"], true, "without a verdict"),
            (&["PASS"], false, "no verdict within 30 min"),
            (&["up"], false, "last word was \"up\""),
            (&[], true, "last word was \"nothing\""),
        ] {
            let given = verdict(&said(words), ended).unwrap_err();
            assert!(given.contains(reason), "{given}");
        }
    }

    #[test]
    fn machine_has_no_network_and_ends_with_its_parent() {
        let mut machine = Machine::new(Accelerator::Emulator, Path::new("/k"), Path::new("/scratch"));
        machine.disk(Path::new("/p.img"), "readonly=on").serial(Path::new("/log"));
        let line: Vec<_> =
            machine.command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let line = line.join(" ");
        for words in [
            "--pdeathsig KILL qemu-system-x86_64",
            "-accel tcg",
            "-nic none",
            "-kernel /k",
            "file=/p.img,if=virtio,format=raw,readonly=on",
            "-serial file:/log",
        ] {
            assert!(line.contains(words), "no {words:?} in {line}");
        }
    }

    #[test]
    fn kernel_that_says_nothing_is_emulated() {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dir.path().join("kernel");
        fs::write(&kernel, "no kernel").unwrap();
        assert_eq!(Accelerator::for_kernel(&kernel, dir.path()), Accelerator::Emulator);
    }
}
