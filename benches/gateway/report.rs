//! What a benchmark found: a line for machines, a table for people.

use std::path::PathBuf;

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use crate::rounds::number;

/// Whether a number must be at least or at most what its target says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Good {
    /// More is better.
    AtLeast,
    /// Less is better.
    AtMost,
}

/// A benchmark's result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The benchmark.
    pub(crate) id: String,
    /// What was done, in a few words.
    pub(crate) title: String,
    /// The gateway's number.
    pub(crate) value: f64,
    /// What of.
    pub(crate) unit: String,
    /// What the ceiling reached in the same run, in the same unit.
    pub(crate) ceiling: f64,
    /// What the ceiling is.
    pub(crate) of: String,
    /// Median of the rounds' ratios.
    pub(crate) ratio: f64,
    /// What the ratio should be.
    pub(crate) target: f64,
    /// On which side of it.
    pub(crate) good: Good,
    /// The work was counted on both sides: what the sandbox took, what the database holds, what was asked for.
    pub(crate) verified: bool,
    /// Numbers beside it, in order: what, how much.
    pub(crate) more: Vec<(String, String)>,
    /// Lines of a plot.
    pub(crate) plot: Option<Plot>,
    /// Machine, date, command.
    pub(crate) machine: String,
    pub(crate) date: String,
    pub(crate) command: String,
}

/// A plot: lines over one axis.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plot {
    pub(crate) x: String,
    pub(crate) y: String,
    /// Name and points of each line.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Report {
    /// Whether the target is met.
    pub(crate) fn is_met(&self) -> bool {
        match self.good {
            Good::AtLeast => self.ratio >= self.target,
            Good::AtMost => self.ratio <= self.target,
        }
    }

    /// Whether it is no worse than a third of what it should be: on a busy machine, and in a build that is not optimised.
    pub(crate) fn is_near(&self) -> bool {
        match self.good {
            Good::AtLeast => self.ratio >= self.target / 3.0,
            Good::AtMost => self.ratio <= self.target * 3.0,
        }
    }

    /// One more number.
    pub(crate) fn also(&mut self, what: &str, how_much: impl Into<String>) {
        self.more.push((what.to_owned(), how_much.into()));
    }

    /// The line for machines.
    pub(crate) fn line(&self) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            id: &'a str,
            value: f64,
            unit: &'a str,
            ceiling: f64,
            ratio: f64,
            target: f64,
            verified: bool,
        }
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let line = Line {
            id: &self.id,
            value: round(self.value),
            unit: &self.unit,
            ceiling: round(self.ceiling),
            ratio: round(self.ratio),
            target: round(self.target),
            verified: self.verified,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        let sign = if self.good == Good::AtLeast { "≥" } else { "≤" };
        let verdict = if self.is_met() { "met" } else { "missed" };
        table.set_header([format!("{}: {}", self.id, self.title), String::new()]);
        table.add_row(["gateway".to_owned(), format!("{} {}", number(self.value), self.unit)]);
        table.add_row([self.of.clone(), format!("{} {}", number(self.ceiling), self.unit)]);
        table.add_row([
            "ratio".to_owned(),
            format!("{:.2} (target {sign} {:.2}: {verdict})", self.ratio, self.target),
        ]);
        for (what, how_much) in &self.more {
            table.add_row([what, how_much]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Left);
        }
        table.to_string()
    }
}

/// Where results are kept between runs.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let folder = target.join("bench-results");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Keeps a result, so that `docs` can show it.
pub(crate) fn keep(report: &Report) -> anyhow::Result<()> {
    let file = folder()?.join(format!("{}.json", report.id));
    std::fs::write(&file, serde_json::to_string_pretty(report)?)
        .with_context(|| format!("cannot write {}", file.display()))
}
