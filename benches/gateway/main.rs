//! What the gateway can do, measured against what the machine can do. `scripts/bench --help` says how.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "benchmarks are users, not the gateway"
)]
#![allow(clippy::unchecked_time_subtraction, reason = "CPU times only grow")]
#![allow(clippy::assigning_clones, reason = "a report is filled in once")]

mod docs;
mod machine;
mod probe;
mod report;
mod rounds;
mod scenario;
mod world;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use report::{Good, Report};

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// As little as tells a ruin from a house.
    Guard,
    /// Under a minute.
    Quick,
    /// As the tables say.
    Full,
    /// More and longer.
    Long,
}

impl Size {
    /// Nobody waits for it.
    pub(crate) fn is_small(self) -> bool {
        matches!(self, Self::Guard | Self::Quick)
    }
}

/// Measures the gateway against what this machine can do.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(
    name = "scripts/bench",
    after_help = "\
Examples:
  scripts/bench b --quick      one benchmark, under a minute once built
  scripts/bench                all of them
  scripts/bench --list         which there are
  scripts/bench b g h --guard  whether something became slow
  scripts/bench --docs         write what was found into docs/benchmarks.md

The last line of each is JSON: id, value, unit, ceiling, ratio, target, verified."
)]
struct Args {
    /// Which; all where none is named. `--list` tells them.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Tells which there are.
    #[arg(long)]
    list: bool,
    /// Little: under a minute each.
    #[arg(long, conflicts_with = "long")]
    quick: bool,
    /// More rounds, larger numbers.
    #[arg(long)]
    long: bool,
    /// Least of all; fails where a ratio is far off its target. Noise only makes it worse, so the best of three tries counts.
    #[arg(long, conflicts_with_all = ["quick", "long"])]
    guard: bool,
    /// Writes what was found into docs/benchmarks.md.
    #[arg(long, conflicts_with = "ids")]
    docs: bool,
    /// Measures this build of the gateway, and its sandbox.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_anypush"), hide_default_value = true)]
    gateway: String,
    /// What `cargo bench` says to whatever it starts.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// A ceiling, or those who call, in a process of its own.
    #[command(hide = true)]
    Part {
        /// Which.
        name: String,
    },
}

/// A run.
pub(crate) struct Bench {
    pub(crate) size: Size,
    /// The program that is measured.
    pub(crate) gateway: String,
}

impl Bench {
    /// Progress, for people.
    #[expect(clippy::unused_self, reason = "said by a run")]
    pub(crate) fn say(&self, text: &str) {
        eprintln!("  {text}");
    }

    /// A result that holds nothing yet but where and when.
    pub(crate) fn report(&self, id: &str, title: &str) -> anyhow::Result<Report> {
        let size = match self.size {
            Size::Guard => " --guard",
            Size::Quick => " --quick",
            Size::Full => "",
            Size::Long => " --long",
        };
        Ok(Report {
            id: id.to_owned(),
            title: title.to_owned(),
            value: 0.0,
            unit: String::new(),
            ceiling: 0.0,
            of: String::new(),
            ratio: 0.0,
            target: 0.0,
            good: Good::AtLeast,
            verified: false,
            more: Vec::new(),
            plot: None,
            machine: machine::line()?,
            date: jiff::Zoned::now().date().to_string(),
            command: format!("scripts/bench {id}{size}"),
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.role.as_ref().map_or_else(|| measure(&args), |Role::Part { name }| probe::serve(name)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scripts/bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> anyhow::Result<()> {
    if args.docs {
        return docs::write();
    }
    if args.list {
        for (id, what) in scenario::ALL {
            println!("{id:3} {what}");
        }
        return Ok(());
    }
    let size = match (args.guard, args.quick, args.long) {
        (true, ..) => Size::Guard,
        (_, true, _) => Size::Quick,
        (.., true) => Size::Long,
        _ => Size::Full,
    };
    let bench = Bench { size, gateway: args.gateway.clone() };
    let all = scenario::ALL.map(|(id, _)| id.to_owned());
    let ids = if args.ids.is_empty() { &all[..] } else { &args.ids };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut lines = Vec::new();
    for id in ids {
        eprintln!("{id}");
        let report = runtime.block_on(one(id, &bench)).with_context(|| format!("benchmark {id}"))?;
        println!("{}", report.table());
        if size != Size::Guard {
            report::keep(&report)?;
        }
        lines.push(report.line());
    }
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

/// One benchmark; as a guard at most three times, until it is not far off.
async fn one(id: &str, bench: &Bench) -> anyhow::Result<Report> {
    let mut report = scenario::run(id, bench).await?;
    if bench.size != Size::Guard {
        return Ok(report);
    }
    for _ in 0..2 {
        if report.is_near() {
            return Ok(report);
        }
        bench.say(&format!("{:.2} is far off {}: again", report.ratio, report.target));
        report = scenario::run(id, bench).await?;
    }
    anyhow::ensure!(
        report.is_near(),
        "the ratio is {:.2}, and should be {}: something is slow\n{}",
        report.ratio,
        report.target,
        report.table()
    );
    Ok(report)
}
