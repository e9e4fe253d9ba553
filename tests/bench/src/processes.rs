//! CPU time and memory of processes, from /proc.

use std::fs;
use std::ops::Sub;
use std::path::Path;

use anyhow::{Context, Result};

/// Linux counts CPU time of processes in units of this many a second, on every machine that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processes whose CPU time is told apart.
#[derive(Clone, Debug)]
pub struct Processes {
    api_server: u32,
    etcd: u32,
    operator: Option<u32>,
}

/// CPU seconds used up to a moment, or between two.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuSeconds {
    /// Of kube-apiserver.
    pub api_server: f64,
    /// Of etcd.
    pub etcd: f64,
    /// Of the operator; 0 when it does not run.
    pub operator: f64,
    /// Of this process: driver, observer and raw writer.
    pub bench: f64,
    /// Of the whole machine.
    pub machine: f64,
}

impl CpuSeconds {
    /// The part of the machine's CPU time that went to nobody who is measured, from 0 to 1.
    #[must_use]
    pub fn disturbance(&self) -> f64 {
        let Self { api_server, etcd, operator, bench, machine } = *self;
        if machine > 0.0 { (1.0 - (api_server + etcd + operator + bench) / machine).max(0.0) } else { 0.0 }
    }
}

impl Sub for CpuSeconds {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            api_server: self.api_server - before.api_server,
            etcd: self.etcd - before.etcd,
            operator: self.operator - before.operator,
            bench: self.bench - before.bench,
            machine: self.machine - before.machine,
        }
    }
}

impl Processes {
    /// Finds the processes of the API server whose files are in `state_dir`.
    ///
    /// # Errors
    /// When one does not run.
    pub fn of_server(state_dir: &Path) -> Result<Self> {
        let find = |name| find(name, state_dir).with_context(|| format!("failed to find the process {name}"));
        Ok(Self { api_server: find("kube-apiserver")?, etcd: find("etcd")?, operator: None })
    }

    /// The same with an operator.
    #[must_use]
    pub fn with_operator(&self, operator: Option<u32>) -> Self {
        Self { operator, ..self.clone() }
    }

    /// What they have used so far.
    ///
    /// # Errors
    /// When one has ended.
    pub fn cpu_seconds(&self) -> Result<CpuSeconds> {
        let stat = fs::read_to_string("/proc/stat")?;
        Ok(CpuSeconds {
            api_server: cpu_seconds(self.api_server)?,
            etcd: cpu_seconds(self.etcd)?,
            operator: self.operator.map_or(Ok(0.0), cpu_seconds)?,
            bench: cpu_seconds(std::process::id())?,
            machine: parse_machine(&stat).context("/proc/stat has no times")?,
        })
    }
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("process {pid} has ended"))?;
    parse_stat(&stat).with_context(|| format!("{path} has no times"))
}

/// The process of this program that has `folder` in its command line.
fn find(program: &str, folder: &Path) -> Option<u32> {
    let folder = folder.to_str()?;
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let mut words = line.split('\0');
        let ours = words.next()?.ends_with(&format!("/{program}")) && words.any(|word| word.contains(folder));
        ours.then_some(pid)
    })
}

/// Fields 14 and 15 of proc(5): time in user and in kernel mode.
fn parse_stat(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// All of the first line of /proc/stat but idle and waiting for disks; guests are counted in user time already.
fn parse_machine(stat: &str) -> Option<f64> {
    let fields: Vec<f64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .filter_map(|f| f.parse().ok())
        .collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = fields[..] else { return None };
    Some((user + nice + system + irq + softirq) / TICKS_PER_SECOND)
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Resident: what it takes of the machine's memory.
    pub resident: f64,
    /// Of this, its own data; the rest is mostly the program itself.
    pub anonymous: f64,
    /// The most that was ever resident.
    pub peak: f64,
}

/// Memory of a process.
///
/// # Errors
/// When it has ended.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} has ended"))?;
    parse_status(&status).with_context(|| format!("/proc/{pid}/status has no memory"))
}

fn parse_status(status: &str) -> Option<Memory> {
    let bytes = |key: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
    };
    Some(Memory { resident: bytes("VmRSS")?, anonymous: bytes("RssAnon")?, peak: bytes("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_a_process_with_a_strange_name() {
        assert_eq!(parse_stat("1 (a (b) c) S 0 1 1 0 -1 0 0 0 0 0 150 50 0 0 20"), Some(2.0));
        assert_eq!(parse_stat("1 (a) S"), None);
    }

    #[test]
    fn a_machine_that_waits_is_idle() {
        assert_eq!(parse_machine("cpu  100 10 50 9000 900 20 20 0 0 0\ncpu0 1 1 1\n"), Some(2.0));
        assert_eq!(parse_machine("intr 1\n"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    20 kB\nVmRSS:\t    12 kB\nRssAnon:\t     8 kB\n";
        assert_eq!(
            parse_status(status),
            Some(Memory { resident: 12_288.0, anonymous: 8_192.0, peak: 20_480.0 })
        );
        assert_eq!(parse_status("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_both() {
        let own = std::process::id();
        assert!(cpu_seconds(own).unwrap() >= 0.0);
        assert!(memory(own).unwrap().resident > 1e6);
    }

    #[test]
    fn what_nobody_measured_used_disturbs() {
        let quiet = CpuSeconds { api_server: 5.0, etcd: 1.0, operator: 1.0, bench: 1.0, machine: 8.0 };
        assert!(quiet.disturbance().abs() < 1e-9);
        assert!((CpuSeconds { machine: 16.0, ..quiet }.disturbance() - 0.5).abs() < 1e-9);
        assert!(CpuSeconds::default().disturbance().abs() < 1e-9);
    }

    #[test]
    fn a_difference_is_one_of_each_part() {
        let one = CpuSeconds { api_server: 1.0, etcd: 2.0, operator: 3.0, bench: 4.0, machine: 10.0 };
        let two = CpuSeconds { api_server: 2.0, etcd: 4.0, operator: 6.0, bench: 8.0, machine: 20.0 };
        assert_eq!(two - one, one);
    }
}
