//! Ceilings, what the same machine does with the same bytes where nothing is decided and nothing is recorded, and those who call.
//!
//! Each runs in a process of its own, on the core of the gateway or on that of the others: this program calls itself.

pub(crate) mod accept;
pub(crate) mod adapter;
pub(crate) mod db;
mod echo;
pub(crate) mod h2;
mod http;
pub(crate) mod load;
pub(crate) mod receipts;
mod request;
pub(crate) mod rows;
pub(crate) mod sockets;
pub(crate) mod vendor;

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::machine;
use crate::world::on_core;

/// What was reached, by the gateway or by a ceiling.
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
}

/// Runs one in a process of its own on a core, told what to do on its standard input.
pub(crate) async fn run<T, R>(name: &str, core: Option<usize>, task: &T) -> anyhow::Result<R>
where
    T: Serialize,
    R: DeserializeOwned,
{
    let mut child = part(name, core)?;
    let mut input = child.stdin.take().context("a standard input was asked for")?;
    input.write_all(&serde_json::to_vec(task)?).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "{name} ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One that answers until it is dropped.
pub(crate) struct Server {
    /// Host and port.
    pub(crate) origin: String,
    pub(crate) pid: u32,
    _child: Child,
}

/// Starts one that answers, told what to do on its standard input.
pub(crate) async fn server<T: Serialize>(
    name: &str,
    core: Option<usize>,
    task: &T,
) -> anyhow::Result<Server> {
    let mut child = part(name, core)?;
    let mut input = child.stdin.take().context("a standard input was asked for")?;
    input.write_all(&serde_json::to_vec(task)?).await?;
    drop(input);
    let output = child.stdout.take().context("a standard output was asked for")?;
    let mut origin = String::new();
    BufReader::new(output).read_line(&mut origin).await?;
    let pid = child.id().context("it runs")?;
    Ok(Server { origin: origin.trim().to_owned(), pid, _child: child })
}

fn part(name: &str, core: Option<usize>) -> anyhow::Result<Child> {
    let own = std::env::current_exe()?;
    let own = own.to_str().context("the path of this program is no text")?;
    let mut command = Command::from(on_core(core, own));
    command.args(["part", name]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().context("taskset of util-linux is needed")
}

/// The other side: does what it is told, and says what it reached.
pub(crate) fn serve(name: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match name {
        "h2" => say(&runtime.block_on(measured(h2::run(told()?)))?),
        "adapter" => say(&runtime.block_on(measured(adapter::run(told()?)))?),
        "db" => say(&runtime.block_on(db::run(told()?))?),
        "load" => say(&runtime.block_on(load::run(told()?))?),
        "echo" => runtime.block_on(echo::serve()),
        "websockets" => runtime.block_on(echo::websockets()),
        "receipts" => runtime.block_on(receipts::run()),
        "sockets" => runtime.block_on(sockets::run()),
        "rows" => say(&runtime.block_on(rows::run(told()?))?),
        "http" => runtime.block_on(http::serve()),
        "accept" => runtime.block_on(accept::serve(told()?)),
        _ => anyhow::bail!("there is no part {name}"),
    }
}

/// A database that is durable and set as the gateway's is.
fn durable(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "MEMORY")
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

fn say<T: Serialize>(what: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}
