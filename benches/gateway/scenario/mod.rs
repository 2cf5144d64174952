//! What is measured, one file each.

pub(crate) mod b;

use crate::Bench;
use crate::report::Report;

/// The benchmarks, in the order in which they run.
pub(crate) const ALL: [(&str, &str); 1] = [("b", "one call to many devices, one request each")];

/// Runs one.
pub(crate) async fn run(id: &str, bench: &Bench) -> anyhow::Result<Report> {
    match id {
        "b" => b::run(bench).await,
        _ => anyhow::bail!("there is no benchmark {id}; there are {}", ALL.map(|(id, _)| id).join(", ")),
    }
}
