//! What the machine says of a process and of itself.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use procfs::process::Process;
use procfs::{CpuInfo, Current as _, CurrentSI as _, KernelStats, LoadAverage, Meminfo};

/// CPU time that a process has used, user and system, to a hundredth of a second.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = Process::new(pid as i32)?.stat()?;
    Ok(ticks(stat.utime + stat.stime))
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = Process::new(pid as i32)?.status()?;
    Ok(status.vmrss.context("the system does not tell a process's memory")? * 1024)
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// How many files this process may have open: connections are files.
pub(crate) fn open_files() -> anyhow::Result<u64> {
    use procfs::process::LimitValue;
    match Process::myself()?.limits()?.max_open_files.soft_limit {
        LimitValue::Value(most) => Ok(most),
        LimitValue::Unlimited => Ok(u64::MAX),
    }
}

/// A look at the whole machine and at the benchmark's own part of it, to be compared with a later one.
pub(crate) struct Look {
    at: Instant,
    busy: Duration,
    own: Duration,
}

/// How disturbed a round was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Noise {
    /// Share of all CPUs that processes took which are not part of the benchmark, 0 to 1.
    pub(crate) foreign: f64,
    /// What one small durable write took, the median of many.
    pub(crate) sync: Duration,
}

impl Noise {
    /// A round in which others took more than a tenth of the machine says little.
    pub(crate) fn is_loud(&self) -> bool {
        self.foreign > 0.10
    }
}

impl Look {
    /// Own are this process, what it started and waited for, and these.
    pub(crate) fn now(own: &[u32]) -> anyhow::Result<Self> {
        let total = KernelStats::current()?.total;
        let busy =
            total.user + total.nice + total.system + total.irq.unwrap_or(0) + total.softirq.unwrap_or(0);
        let stat = Process::myself()?.stat()?;
        let waited_for = u64::try_from(stat.cutime + stat.cstime)?;
        let mut mine = ticks(stat.utime + stat.stime + waited_for);
        for pid in own {
            mine += cpu(*pid)?;
        }
        Ok(Self { at: Instant::now(), busy: ticks(busy), own: mine })
    }

    /// How disturbed it was since; `dir` is on the disk that matters.
    pub(crate) fn noise(&self, own: &[u32], dir: &Path) -> anyhow::Result<Noise> {
        let now = Self::now(own)?;
        let whole = (now.at - self.at).as_secs_f64() * cores() as f64;
        let busy = now.busy.saturating_sub(self.busy);
        let foreign = busy.saturating_sub(now.own.saturating_sub(self.own));
        Ok(Noise { foreign: foreign.as_secs_f64() / whole, sync: sync(dir)? })
    }
}

/// CPUs of this machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What one durable write of 8 KiB to this file takes.
pub(crate) fn durable_write(file: &mut File) -> anyhow::Result<Duration> {
    let started = Instant::now();
    file.write_all(&[7; 8192])?;
    file.sync_data()?;
    Ok(started.elapsed())
}

/// What one durable write takes in this directory: the median of fifty.
pub(crate) fn sync(dir: &Path) -> anyhow::Result<Duration> {
    let mut file = tempfile::tempfile_in(dir)?;
    let mut took = Vec::with_capacity(50);
    for _ in 0..50 {
        took.push(durable_write(&mut file)?);
    }
    took.sort_unstable();
    Ok(took[took.len() / 2])
}

/// The machine in one line: CPU, cores, memory, kernel.
pub(crate) fn line() -> anyhow::Result<String> {
    let info = CpuInfo::current()?;
    let model = info.model_name(0).unwrap_or("unknown CPU").to_owned();
    let memory = Meminfo::current()?.mem_total as f64 / f64::from(1 << 30);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let load = LoadAverage::current()?.one;
    Ok(format!("{} × {model}, {memory:.0} GiB, Linux {}, load {load:.1}", cores(), kernel.trim()))
}

/// How disturbed the rounds were, as people read it.
pub(crate) fn noise(rounds: &[Noise]) -> String {
    let loud = rounds.iter().filter(|noise| noise.is_loud()).count();
    let most = rounds.iter().map(|noise| noise.foreign).fold(0.0, f64::max);
    let sync = rounds.iter().map(|noise| noise.sync).max().unwrap_or_default();
    let others = most * 100.0;
    format!(
        "others took up to {others:.0} % of the CPUs, {loud} of {} rounds over 10 %; fdatasync {sync:.0?}",
        rounds.len()
    )
}
