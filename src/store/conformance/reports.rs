//! Reports: counters by the time in which messages were made, whoever asks and whatever changes later.

use anypush_providers::contract::Class;

use super::samples::{NOW, app, device, event, events, id, message};
use crate::delivery::state::{Event, KnownPlatform, State, View};
use crate::ids::Id;
use crate::store::{
    Changes, Counted, DevicePut, NewMessage, OTHER_LABELS, QUARTER_MS, ReportAsk, ReportBy, ReportRow, Store,
};

fn everything(app: i64) -> ReportAsk {
    let all = (0, (NOW / QUARTER_MS) * 2);
    ReportAsk { app, spans: vec![all], ..ReportAsk::default() }
}

fn sum(rows: &[ReportRow], counted: Counted) -> i64 {
    rows.iter().filter(|row| row.counted == counted).map(|row| row.n).sum()
}

const ACCEPTED: Counted = Counted::In(View::Now, State::Accepted);
const CLICKED: Counted = Counted::In(View::Now, State::Clicked);

async fn sent(store: &dyn Store, app: i64, n: i64, label: Option<&str>, targets: Vec<u64>) {
    let new = NewMessage { label: label.map(str::to_owned), ..message(app, n) };
    let changes = Changes {
        expanded: vec![(id(n), targets.len() as u64, Some(NOW))],
        events: targets.iter().map(|target| event(id(n), *target, State::Accepted, 1)).collect(),
        ..Changes::default()
    };
    store.accept(new, changes).await.unwrap();
}

pub(in crate::store) async fn a_report_is_of_the_messages_of_its_time_whenever_they_change(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    sent(store, shop, 1, None, vec![1, 2, 3]).await;
    let later = NewMessage { created_at: NOW + QUARTER_MS, class: Class::Marketing, ..message(shop, 2) };
    store.accept(later, Changes { expanded: vec![(id(2), 5, None)], ..Changes::default() }).await.unwrap();
    store.commit(Changes { expanded: vec![(id(2), 2, Some(NOW))], ..Changes::default() }).await.unwrap();
    let clicked = vec![event(id(1), 1, State::Clicked, 90 * 60 * 1000), event(id(2), 9, State::Accepted, 1)];
    store.commit(events(clicked)).await.unwrap();
    let first = NOW / QUARTER_MS;
    let spans = vec![(first - 1, first), (first, first + 1), (first + 1, first + 2)];
    let ask = ReportAsk { app: shop, spans, ..ReportAsk::default() };
    let rows = store.report(&ask).await.unwrap();
    let at = |span| rows.iter().filter(|row| row.span == span).cloned().collect::<Vec<_>>();
    assert!(at(0).is_empty());
    let told = |rows: &[ReportRow]| [Counted::Targeted, ACCEPTED, CLICKED].map(|counted| sum(rows, counted));
    assert_eq!((told(&at(1)), told(&at(2))), ([3, 2, 1], [7, 1, 0]));
    let class = ReportAsk { class: Some(Class::Marketing), ..everything(shop) };
    assert_eq!(told(&store.report(&class).await.unwrap()), [7, 1, 0]);
    assert!(store.report(&everything(shop + 1)).await.unwrap().is_empty());
    let stats = store.channel_stats(&[1, 2], (0, u64::from(u32::MAX))).await.unwrap();
    assert_eq!((stats.len(), &stats[0].tries), (1, &vec![(None, 5)]));
    assert_eq!(stats[0].quantile_ms(0.99), Some(3));
}

pub(in crate::store) async fn a_stretch_of_time_counts_its_own_quarters_and_no_other(store: &dyn Store) {
    const DAY: u64 = 24 * 4;
    let shop = app(store, "shop").await.seq;
    let begin = NOW / QUARTER_MS / DAY * DAY;
    // Over three days: some at their ends, some share an hour.
    let made: Vec<u64> =
        (0..30).map(|n| begin + n * n * 7 % (3 * DAY)).chain([begin, begin + DAY - 1]).collect();
    for (n, quarter) in made.iter().enumerate() {
        let at = quarter * QUARTER_MS + n as u64;
        let class = if n % 3 == 0 { Class::Marketing } else { Class::Transactional };
        let new = NewMessage { id: Id::floor_at(at), created_at: at, class, ..message(shop, 0) };
        let expanded = vec![(new.id, 1, Some(at))];
        let events = vec![event(new.id, 1, State::Accepted, 1)];
        store.accept(new, Changes { events, expanded, ..Changes::default() }).await.unwrap();
    }
    let quarters = |from: u64, length: u64| (begin + from, begin + from + length);
    let apart: Vec<_> = (0..3 * DAY).step_by(11).map(|from| quarters(from, 11)).collect();
    let days = |from: u64| (0..2).map(|day| quarters(from + day * DAY, DAY)).collect();
    for spans in [apart, days(0), days(22), vec![quarters(0, 3 * DAY)], vec![quarters(5, 2 * DAY + 40)]] {
        for (class, each) in [(None, 1), (Some(Class::Marketing), 3)] {
            let ask = ReportAsk { app: shop, spans: spans.clone(), class, ..ReportAsk::default() };
            let rows = store.report(&ask).await.unwrap();
            for (nth, (from, to)) in spans.iter().enumerate() {
                let told: Vec<_> = rows.iter().filter(|row| row.span == nth).cloned().collect();
                let of_class = made.iter().step_by(each);
                let right = of_class.filter(|quarter| (*from..*to).contains(quarter)).count() as i64;
                let told = [Counted::Targeted, ACCEPTED].map(|counted| sum(&told, counted));
                assert_eq!(told, [right; 2], "{from}..{to} {class:?}");
            }
        }
    }
}

pub(in crate::store) async fn a_delivery_keeps_the_platform_that_its_device_had(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let phone = |platform: &str| DevicePut { platform: Some(platform.into()), ..device("d", Vec::new()) };
    let seq = store.put_devices(shop, vec![phone("ios")], NOW).await.unwrap()[0].seq;
    sent(store, shop, 1, None, vec![seq]).await;
    store.put_devices(shop, vec![phone("android")], NOW).await.unwrap();
    store.commit(events(vec![event(id(1), seq, State::Clicked, 5)])).await.unwrap();
    store.delete_device(shop, "d").await.unwrap();
    let by = ReportBy { platform: true, ..ReportBy::default() };
    let rows = store.report(&ReportAsk { by, ..everything(shop) }).await.unwrap();
    let platforms: Vec<_> =
        rows.iter().filter(|row| row.counted != Counted::Targeted).map(|row| row.group.platform).collect();
    assert!(!platforms.is_empty() && platforms.iter().all(|platform| *platform == 2), "{rows:?}");
    assert!(rows.iter().all(|row| row.n > 0), "{rows:?}");
}

pub(in crate::store) async fn labels_beyond_the_first_hundred_of_a_day_are_counted_together(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    for n in 0..103 {
        sent(store, shop, n, Some(&format!("label {n}")), vec![1]).await;
    }
    // Whoever comes again is counted where its label was before.
    for n in [0, 102] {
        sent(store, shop, 200 + n, Some(&format!("label {n}")), vec![1]).await;
        store.commit(events(vec![event(id(200 + n), 1, State::Clicked, 5)])).await.unwrap();
    }
    let by = ReportBy { label: true, ..ReportBy::default() };
    let rows = store.report(&ReportAsk { by, ..everything(shop) }).await.unwrap();
    let of = |label: &str, counted| {
        let rows: Vec<_> = rows.iter().filter(|row| row.group.label == label).cloned().collect();
        sum(&rows, counted)
    };
    assert_eq!((of("label 0", Counted::Targeted), of("label 0", CLICKED)), (2, 1));
    assert_eq!((of(OTHER_LABELS, Counted::Targeted), of(OTHER_LABELS, CLICKED)), (4, 1));
    let labels: std::collections::BTreeSet<_> = rows.iter().map(|row| row.group.label.as_str()).collect();
    assert_eq!(labels.len(), 101);
    let one = ReportAsk { label: Some("label 7".into()), ..everything(shop) };
    assert_eq!(sum(&store.report(&one).await.unwrap(), ACCEPTED), 1);
}

pub(in crate::store) async fn a_delivery_is_counted_under_the_platform_that_its_route_was_decided_for(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    let phone = DevicePut { platform: Some("ios".into()), ..device("d", Vec::new()) };
    let seq = store.put_devices(shop, vec![phone], NOW).await.unwrap()[0].seq;
    let expanded = vec![(id(1), 2, Some(NOW))];
    store.accept(message(shop, 1), Changes { expanded, ..Changes::default() }).await.unwrap();
    let told = |target, state, platform| Event { platform, ..event(id(1), target, state, 5) };
    let first = [
        told(seq, State::Accepted, KnownPlatform::new(1)),
        // The device is gone meanwhile.
        told(seq + 1, State::Accepted, KnownPlatform::new(1)),
    ];
    store.commit(events(first.to_vec())).await.unwrap();
    // What it was counted under first stays.
    store.commit(events(vec![told(seq, State::Clicked, KnownPlatform::new(2))])).await.unwrap();
    let by = ReportBy { platform: true, ..ReportBy::default() };
    let rows = store.report(&ReportAsk { by, ..everything(shop) }).await.unwrap();
    let platforms: Vec<_> =
        rows.iter().filter(|row| row.counted != Counted::Targeted).map(|row| row.group.platform).collect();
    assert!(!platforms.is_empty() && platforms.iter().all(|platform| *platform == 1), "{rows:?}");
}
