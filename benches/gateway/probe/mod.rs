//! Ceilings: what the same machine does with the same bytes where nothing is decided, nothing is recorded.
//!
//! Each runs in a process of its own, on the core that the gateway has in its turn: this program calls itself.

pub(crate) mod h2;

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;

use crate::machine;
use crate::world::on_core;

/// What a ceiling reached.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// Units of work.
    pub(crate) done: u64,
    /// From the first to the last.
    pub(crate) seconds: f64,
    /// CPU of the process meanwhile.
    pub(crate) cpu_seconds: f64,
}

impl Reached {
    /// Units a second.
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.seconds
    }

    /// Microseconds of CPU for each.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.done as f64
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_secs_f64(self.cpu_seconds)
    }
}

/// Runs a ceiling in a process of its own on a core, told what to do on its standard input.
pub(crate) async fn run<T: Serialize>(name: &str, core: Option<usize>, task: &T) -> anyhow::Result<Reached> {
    let own = std::env::current_exe()?;
    let own = own.to_str().context("the path of this program is no text")?;
    let mut command = tokio::process::Command::from(on_core(core, own));
    command.args(["probe", name]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("taskset of util-linux is needed")?;
    let mut input = child.stdin.take().context("a standard input was asked for")?;
    input.write_all(&serde_json::to_vec(task)?).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "the ceiling {name} ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The other side: does what it is told, and says what it reached.
pub(crate) fn serve(name: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reached = match name {
        "h2" => runtime.block_on(measured(h2::run(told()?)))?,
        _ => anyhow::bail!("there is no ceiling {name}"),
    };
    println!("{}", serde_json::to_string(&reached)?);
    Ok(())
}

/// Counts time and CPU of so many units of work.
async fn measured(work: impl Future<Output = anyhow::Result<u64>>) -> anyhow::Result<Reached> {
    let (started, before) = (Instant::now(), machine::cpu(std::process::id())?);
    let done = work.await?;
    let cpu_seconds = (machine::cpu(std::process::id())? - before).as_secs_f64();
    Ok(Reached { done, seconds: started.elapsed().as_secs_f64(), cpu_seconds })
}

fn told<T: DeserializeOwned>() -> anyhow::Result<T> {
    Ok(serde_json::from_reader(std::io::stdin().lock())?)
}
