//! Writes what was found into `docs/benchmarks.md`, between two marks, and its plots beside it.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::report::{Good, Plot, Report, folder};
use crate::rounds::number;
use crate::scenario;

const PAGE: &str = "docs/benchmarks.md";
const PLOTS: &str = "docs/benchmarks";
const BEGIN: &str = "<!-- what follows is written by scripts/bench --docs -->";
const END: &str = "<!-- until here -->";

/// Writes page and plots from the kept results.
pub(crate) fn write() -> anyhow::Result<()> {
    let mut reports: Vec<Report> = Vec::new();
    for (id, _) in scenario::ALL {
        let file = folder()?.join(format!("{id}.json"));
        match std::fs::read(&file) {
            Ok(text) => {
                reports.push(serde_json::from_slice(&text).with_context(|| file.display().to_string())?);
            }
            Err(_) => eprintln!("  {id} was not measured: left out"),
        }
    }
    std::fs::create_dir_all(PLOTS)?;
    let mut text = String::from("\n");
    text += "| | what | gateway | ceiling | ratio | target | |\n| --- | --- | ---: | ---: | ---: | ---: | --- |\n";
    for report in &reports {
        text += &row(report);
    }
    for report in &reports {
        text += &section(report);
        if let Some(plot) = &report.plot {
            draw(plot, &report.title, &Path::new(PLOTS).join(format!("{}.svg", report.id)))?;
            let _ = write!(text, "\n![{}](benchmarks/{}.svg)\n", report.title, report.id);
        }
    }
    let page = std::fs::read_to_string(PAGE).with_context(|| format!("cannot read {PAGE}"))?;
    let (head, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} has no mark {BEGIN}"))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("{PAGE} has no mark {END}"))?;
    std::fs::write(PAGE, format!("{head}{BEGIN}\n{text}\n{END}{tail}"))?;
    Ok(())
}

fn row(report: &Report) -> String {
    let sign = if report.good == Good::AtLeast { "≥" } else { "≤" };
    format!(
        "| {} | {} | {} {} | {} | {:.2} | {sign} {} | {} |\n",
        report.id,
        report.title,
        number(report.value),
        report.unit,
        number(report.ceiling),
        report.ratio,
        number(report.target),
        if report.is_met() { "met" } else { "missed" },
    )
}

fn section(report: &Report) -> String {
    let mut text = format!("\n### {}: {}\n\n", report.id, report.title);
    let _ = writeln!(text, "`{}`, {}, {}.\n", report.command, report.date, report.machine);
    let _ = writeln!(text, "| | |\n| --- | --- |");
    let _ = writeln!(text, "| gateway | {} {} |", number(report.value), report.unit);
    let _ = writeln!(text, "| {} | {} {} |", report.of, number(report.ceiling), report.unit);
    for (what, how_much) in &report.more {
        let _ = writeln!(text, "| {what} | {how_much} |");
    }
    text
}

/// Draws lines over one axis by powers of ten, or evenly where numbers are near each other.
fn draw(plot: &Plot, title: &str, file: &Path) -> anyhow::Result<()> {
    let points = || plot.lines.iter().flat_map(|(_, points)| points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(0.0, f64::max);
    let least = points().map(|point| point.0).fold(f64::MAX, f64::min);
    let (right, top) = (most(|point| point.0), most(|point| point.1) * 1.1);
    let area = SVGBackend::new(file, (760, 360)).into_drawing_area();
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", file.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area);
    chart.caption(title, ("sans-serif", 15)).margin(12).x_label_area_size(36).y_label_area_size(64);
    if right > least * 20.0 {
        let x = (least..right).log_scale();
        chart.build_cartesian_2d(x, 0.0..top).and_then(|chart| lines(chart, plot))
    } else {
        chart.build_cartesian_2d(0.0..right * 1.05, 0.0..top).and_then(|chart| lines(chart, plot))
    }
    .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

/// Axes, lines, and their names where there is more than one.
fn lines<'a, B: DrawingBackend + 'a, X>(
    mut chart: ChartContext<'a, B, Cartesian2d<X, RangedCoordf64>>,
    plot: &Plot,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart.configure_mesh().x_desc(&plot.x).y_desc(&plot.y).light_line_style(WHITE).draw()?;
    for (index, (name, points)) in plot.lines.iter().enumerate() {
        let color = Palette99::pick(index).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
    }
    if plot.lines.len() > 1 {
        chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    }
    Ok(())
}
