//! The command line: one file per command.
//!
//! Exit codes: 0 done, 1 it failed (one sentence says how to mend it), 2 the command was misspelled, 64 the
//! configuration is wrong.

mod apply;
mod audit;
mod backup;
mod channels;
mod client;
mod dry_run;
mod keys;
mod misc;
mod sandbox;
mod send;
mod serve;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use comfy_table::{ContentArrangement, Table};

pub(crate) use self::serve::{bind, terminated};
use crate::demo;
use crate::settings::{Mistakes, Settings};
use crate::store::{StoreError, sqlite};

/// How wide tables are, and how narrow they may be.
const PAGE: u16 = 140;
const LEAST: u16 = 60;

const EXAMPLES: &str = "\
Examples:
  anypush demo                                see it work: gateway, played vendors, phones
  anypush serve                               a gateway on this machine, data in ./data
  anypush keys create --admin --data-dir data the first key, while no gateway runs
  anypush send --to-tag vip --title Hello --body 'It works' --follow

Results are tables for people; --json prints them for programs. Exit codes: 0 done, 1 failed (the last line says why and
what to do), 2 the command line was not understood, 64 the configuration or a file of --file is wrong.";

/// anypush: one call reaches any phone.
#[derive(Debug, Parser)]
#[command(name = "anypush", version, about, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Sandbox(sandbox::Args),
    Send(send::Args),
    Keys(keys::Args),
    Audit(audit::Args),
    Channels(channels::Args),
    Apply(apply::Args),
    Export(apply::ExportArgs),
    Openapi(misc::OpenapiArgs),
    Migrate(misc::MigrateArgs),
    Backup(backup::Args),
    Rewrap(misc::RewrapArgs),
}

/// Where the configuration comes from; the same for every command that needs it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Config {
    /// File with settings that differ from the defaults.
    #[arg(long, env = "ANYPUSH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the database and the master key.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

impl Config {
    /// The settings, with these on top.
    pub fn load(&self, mut given: Vec<(&str, String)>) -> Result<Settings, Mistakes> {
        if let Some(dir) = &self.data_dir {
            given.push(("data_dir", dir.display().to_string()));
        }
        Settings::load(self.config.as_deref(), |name| std::env::var(name).ok(), &given)
    }

    /// The settings, where there is a database already: a directory that was mistyped must not become a new one.
    fn load_existing(&self) -> anyhow::Result<Settings> {
        let settings = self.load(Vec::new())?;
        let dir = settings.data_dir.display();
        let is_there = settings.data_dir.join(sqlite::FILE).exists();
        anyhow::ensure!(is_there, "there is no database in {dir}; name the gateway's data directory");
        Ok(settings)
    }
}

/// Runs a command to its end.
pub async fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(args) => serve::run(args).await,
        Command::Sandbox(args) => sandbox::run(args).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Send(args) => send::run(args).await,
        Command::Keys(args) => keys::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Channels(args) => channels::run(args).await,
        Command::Apply(args) => apply::run(args).await,
        Command::Export(args) => apply::export(args).await,
        Command::Openapi(args) => {
            misc::openapi(&args);
            Ok(())
        }
        Command::Migrate(args) => misc::migrate(args).await,
        Command::Backup(args) => backup::run(args).await,
        Command::Rewrap(args) => misc::rewrap(args).await,
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    complain(&error);
    if matches!(error.downcast_ref(), Some(StoreError::Broken(_))) {
        // Not even what is left open is closed: the database would be written to, and its fsync tried again.
        std::process::exit(1);
    }
    ExitCode::from(if error.is::<Mistakes>() { 64 } else { 1 })
}

#[expect(clippy::print_stderr, reason = "the last word of a command goes to the terminal, not to the log")]
fn complain(error: &anyhow::Error) {
    eprintln!("anypush: {error:#}");
}

/// A table for people, as wide as they say (`COLUMNS`) or as a page: what is longer goes on in the next line.
pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(said.unwrap_or(PAGE).max(LEAST));
    if !head.is_empty() {
        table.set_header(head.to_vec());
    }
    table
}

/// Prints a line of a command's result. A reader that has enough (`| head`) is no failure; a result that could not be
/// written is one.
pub(crate) fn say(line: impl std::fmt::Display) {
    let written = writeln!(std::io::stdout().lock(), "{line}");
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        complain(&anyhow::Error::new(error).context("the result cannot be written"));
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    /// All commands, those below others too.
    fn commands(of: &clap::Command, path: &str) -> Vec<(String, String)> {
        let path = format!("{path} {}", of.get_name()).trim().to_owned();
        let help = of.get_after_help().map(ToString::to_string).unwrap_or_default();
        let below = of.get_subcommands().filter(|below| below.get_name() != "help");
        let below: Vec<_> = below.flat_map(|below| commands(below, &path)).collect();
        [vec![(path, help)], below].concat()
    }

    #[test]
    fn every_command_has_an_example_of_itself() {
        let all = commands(&super::Cli::command(), "");
        assert!(all.len() > 20, "{all:?}");
        for (path, help) in &all {
            assert!(help.contains("Example"), "{path} has no example");
            assert!(help.contains(&format!("  {path}")), "{path}: {help}");
        }
        assert!(all[0].1.contains("Exit codes"), "{}", all[0].1);
    }
}
