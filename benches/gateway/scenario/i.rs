//! i: growth. What one delivery costs when a call reaches ten thousand phones, and when it reaches a hundred times as many: CPU, bytes on
//! disk, memory.

use crate::machine;
use crate::report::{Good, Plot, Report};
use crate::rounds::{Rounds, number};
use crate::scenario::b;
use crate::{Bench, Size};

pub(crate) async fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (sizes, rounds): (&[usize], usize) = match bench.size {
        Size::Guard | Size::Quick => (&[5_000, 20_000, 80_000], 2),
        Size::Full => (&[10_000, 100_000, 1_000_000], 3),
        Size::Long => (&[10_000, 100_000, 1_000_000, 10_000_000], 3),
    };
    let (mut cpu, mut bytes, mut memory, mut rates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for count in sizes {
        let world = b::phones(bench, *count).await?;
        b::turn(&world, *count).await?;
        let before = world.database_bytes().await?;
        let (mut each, mut rate) = (Rounds::default(), Rounds::default());
        for _ in 0..rounds {
            let turn = b::turn(&world, *count).await?;
            each.push(turn.cpu_us());
            rate.push(turn.rate());
        }
        let n = *count as f64;
        let grown = (world.database_bytes().await? - before) as f64 / (n * rounds as f64);
        let resident = machine::resident(world.gateway_pid()?)? as f64 / f64::from(1 << 20);
        bench.say(&format!(
            "{} phones: {:.1} µs and {grown:.0} bytes each, {}/s, {resident:.0} MiB",
            number(n),
            each.median(),
            number(rate.median())
        ));
        cpu.push((n, each.median()));
        bytes.push((n, grown));
        memory.push((n, resident));
        rates.push((n, rate.median()));
    }
    // The first size carries what each call costs once; the second is the measure.
    let (middle, last) = (cpu[1].1, cpu[cpu.len() - 1].1);
    let mut report = bench.report("i", "what one delivery costs, from few phones a call to many")?;
    (report.value, report.unit) = (last, "µs of CPU a delivery".to_owned());
    (report.ceiling, report.of) = (middle, format!("the same at {} phones", number(cpu[1].0)));
    report.ratio = last / middle;
    (report.target, report.good, report.verified) = (1.2, Good::AtMost, true);
    let row = |points: &[(f64, f64)], unit: &str| {
        points
            .iter()
            .map(|(n, value)| format!("{}: {} {unit}", number(*n), number(*value)))
            .collect::<Vec<_>>()
            .join("; ")
    };
    report.also("CPU", row(&cpu, "µs"));
    report.also("database", row(&bytes, "bytes"));
    report.also("rate", row(&rates, "/s"));
    report.also("memory (target: at most 32 MiB more)", row(&memory, "MiB"));
    report.plot = Some(Plot {
        x: "phones of one call".to_owned(),
        y: "µs of CPU, bytes on disk a delivery".to_owned(),
        lines: vec![("CPU, µs".to_owned(), cpu), ("database, bytes".to_owned(), bytes)],
    });
    Ok(report)
}
