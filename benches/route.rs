//! What a decision costs: the route of one device among the channels of a large app.
//!
//! `cargo bench --bench route`

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use anypush::routing::{ChannelState, Question, RouteAddress, RouteChannel, RouteDevice, decide};
use anypush_providers::contract::{Capabilities, Needs, Tier};
use criterion::{Criterion, criterion_group, criterion_main};

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

fn route(criterion: &mut Criterion) {
    let channels: Vec<_> = PROVIDERS.iter().enumerate().map(channel).collect();
    let needs = Needs { notification: true, ..Needs::default() };
    let device = RouteDevice {
        connects: true,
        connected: false,
        enabled: true,
        addresses: vec![address("maker3"), address("global1"), address("text")],
        ..RouteDevice::default()
    };
    let mut group = criterion.benchmark_group("route");
    for count in [2, 11] {
        group.bench_function(format!("device with 3 addresses, {count} channels"), |bencher| {
            let question = Question {
                needs: &needs,
                steps: &[],
                rules: &[],
                device: &device,
                channels: &channels[..count],
                tried: &[],
                own_wait_seconds: 20,
            };
            bencher.iter(|| decide(black_box(&question)));
        });
    }
    group.finish();
}

criterion_group!(benches, route);
criterion_main!(benches);
