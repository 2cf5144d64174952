//! o: what a decision costs: the route of one device among the channels of a large app.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anypush::routing::{ChannelState, Question, RouteAddress, RouteChannel, RouteDevice, decide};
use anypush_providers::contract::{Capabilities, Needs, Tier};

use crate::Bench;
use crate::report::{Good, Report};
use crate::rounds::Rounds;

/// Microseconds that a decision may take.
const BUDGET: f64 = 2.0;
/// Providers of a large app: its own connection, six makers, two global services, a platform, text messages.
const PROVIDERS: [(&str, Tier); 11] = [
    ("direct", Tier::Direct),
    ("maker1", Tier::Maker),
    ("maker2", Tier::Maker),
    ("maker3", Tier::Maker),
    ("maker4", Tier::Maker),
    ("maker5", Tier::Maker),
    ("maker6", Tier::Maker),
    ("global1", Tier::Global),
    ("global2", Tier::Global),
    ("platform", Tier::Platform),
    ("text", Tier::Sms),
];

fn channel((seq, (provider, tier)): (usize, &(&'static str, Tier))) -> RouteChannel {
    RouteChannel {
        seq: seq as i64 + 1,
        name: (*provider).to_owned(),
        provider: (*provider).to_owned(),
        address_provider: provider,
        special: &[],
        tier: *tier,
        capabilities: Capabilities { notification: true, data: true, ..Capabilities::NONE },
        state: ChannelState::Ok,
        serves: Arc::new(|_| Ok(())),
    }
}

fn address(provider: &str) -> RouteAddress {
    RouteAddress {
        provider: provider.to_owned(),
        version: 1,
        kind: "token".to_owned(),
        params: BTreeMap::new(),
    }
}

pub(crate) fn run(bench: &Bench) -> anyhow::Result<Report> {
    let (each, rounds) = if bench.size.is_small() { (100_000, 5) } else { (1_000_000, 9) };
    let channels: Vec<_> = PROVIDERS.iter().enumerate().map(channel).collect();
    let needs = Needs { notification: true, ..Needs::default() };
    let device = RouteDevice {
        connects: true,
        connected: false,
        enabled: true,
        addresses: vec![address("maker3"), address("global1"), address("text")],
        ..RouteDevice::default()
    };
    let decide = |count: usize| {
        let question = Question {
            needs: &needs,
            steps: &[],
            rules: &[],
            device: &device,
            channels: &channels[..count],
            tried: &[],
            own_wait_seconds: 20,
        };
        black_box(decide(black_box(&question)));
    };
    let (mut many, mut few) = (Rounds::default(), Rounds::default());
    for _ in 0..rounds {
        for (count, found) in [(PROVIDERS.len(), &mut many), (2, &mut few)] {
            let started = Instant::now();
            for _ in 0..each {
                decide(count);
            }
            found.push(started.elapsed().as_secs_f64() * 1e6 / f64::from(each));
        }
    }
    let allocations = |count| allocation_counter::measure(|| decide(count)).count_total;
    let mut report = bench.report("o", "the route of a phone with three addresses among eleven channels")?;
    (report.value, report.unit) = (many.median(), "µs".to_owned());
    (report.ceiling, report.of) = (BUDGET, "the budget".to_owned());
    report.ratio = many.median() / BUDGET;
    (report.target, report.good, report.verified) = (1.0, Good::AtMost, true);
    report.also("among two channels", format!("{:.2} µs", few.median()));
    report.also("allocations", format!("{} among eleven, {} among two", allocations(11), allocations(2)));
    report.also("span", many.span());
    Ok(report)
}
