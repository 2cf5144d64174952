//! The program: parses the command line and runs one command.

use std::process::ExitCode;

use anypush::cli::{self, Cli};
use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
