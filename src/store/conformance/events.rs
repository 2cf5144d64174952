//! The journal of events, and the webhooks that are told of them.

use anypush_providers::contract::Reason;

use super::samples::{NOW, address, app, device, event, events, id, message, work};
use crate::delivery::state::{Event, State};
use crate::events::{EventKind, Fact};
use crate::store::{
    AddressVerdict, Changes, EventRow, NewWork, Signature, Store, WebhookAttempt, WebhookChange,
    WebhookRecord, WorkKind,
};

fn webhook(app: i64, kinds: u32) -> WebhookRecord {
    WebhookRecord {
        seq: 0,
        public_id: format!("whk_{app}_{kinds}"),
        app,
        url: "https://backend.example/".into(),
        description: "orders".into(),
        kinds,
        signature: Signature::Ed25519,
        secrets: vec![1, 2],
        disabled: None,
        disabled_at: None,
        failing_since: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn begins(n: i64) -> NewWork {
    NewWork { kind: WorkKind::Webhook, ..work(n, id(0), 0, NOW) }
}

async fn listen(store: &dyn Store, app: i64, kinds: u32) -> WebhookRecord {
    store.put_webhook(webhook(app, kinds), Some(begins(500_000 + app))).await.unwrap().unwrap()
}

async fn told(store: &dyn Store, app: i64) -> Vec<EventRow> {
    store.events_after(app, EventKind::every(), 0, 1000).await.unwrap().rows
}

async fn kinds(store: &dyn Store, app: i64) -> Vec<EventKind> {
    told(store, app).await.iter().filter_map(|row| row.fact.kind()).collect()
}

/// A message to so many targets, all of them in pages.
async fn whole(store: &dyn Store, app: i64, n: i64, targets: u64) {
    let changes = Changes { expanded: vec![(id(n), targets, Some(NOW))], ..Changes::default() };
    store.accept(message(app, n), changes).await.unwrap();
}

pub(in crate::store) async fn events_are_written_only_where_somebody_listens(store: &dyn Store) {
    app(store, "shop").await;
    app(store, "bank").await;
    whole(store, 1, 1, 2).await;
    store.commit(events(vec![event(id(1), 1, State::Accepted, 5)])).await.unwrap();
    assert_eq!(store.event_bounds().await.unwrap().last, 0);
    let bell = store.event_bell();
    listen(store, 1, EventKind::DeliveryFailed.bit()).await;
    whole(store, 2, 2, 1).await;
    let both = [event(id(1), 2, State::Failed, 7), event(id(2), 1, State::Failed, 7)];
    store.commit(events(both.to_vec())).await.unwrap();
    let reason = Some(Reason::VendorUnavailable);
    let fact = Fact::delivery((id(1), 2), State::Failed, reason, 1, 7);
    assert_eq!(told(store, 1).await, [EventRow { number: 1, fact }], "of the other kinds nothing");
    assert!(told(store, 2).await.is_empty(), "nobody listens to that app");
    assert!(bell.has_changed().unwrap());
    assert_eq!(store.event_head(1), 1);
}

pub(in crate::store) async fn each_state_of_a_delivery_is_told_once_and_a_message_is_done_once(
    store: &dyn Store,
) {
    app(store, "shop").await;
    listen(store, 1, EventKind::every()).await;
    whole(store, 1, 1, 2).await;
    let say = async |events: Vec<Event>| store.commit(super::samples::events(events)).await.unwrap();
    say(vec![event(id(1), 1, State::Accepted, 5)]).await;
    say(vec![event(id(1), 1, State::Accepted, 6), event(id(1), 2, State::Failed, 6)]).await;
    say(vec![event(id(1), 1, State::Displayed, 7)]).await;
    say(vec![event(id(1), 1, State::Delivered, 8), event(id(1), 1, State::Displayed, 9)]).await;
    let expected = [
        EventKind::DeliveryAccepted,
        EventKind::DeliveryFailed,
        EventKind::MessageDone,
        EventKind::DeliveryDelivered,
        EventKind::DeliveryDisplayed,
    ];
    assert_eq!(kinds(store, 1).await, expected);
}

pub(in crate::store) async fn a_message_is_done_when_its_last_target_or_its_audience_is(store: &dyn Store) {
    app(store, "shop").await;
    listen(store, 1, EventKind::MessageDone.bit()).await;
    // All at once, in the transaction that accepts it.
    let ended = vec![event(id(1), 1, State::Suppressed, 0)];
    let changes = Changes { expanded: vec![(id(1), 1, Some(NOW))], events: ended, ..Changes::default() };
    store.accept(message(1, 1), changes).await.unwrap();
    assert_eq!(kinds(store, 1).await.len(), 1);
    // Everything has ended that is known of, and then it turns out that there is no more.
    store.accept(message(1, 2), Changes::default()).await.unwrap();
    let grown = Changes { expanded: vec![(id(2), 1, None)], ..Changes::default() };
    store.commit(grown).await.unwrap();
    store.commit(events(vec![event(id(2), 1, State::Accepted, 1)])).await.unwrap();
    assert_eq!(kinds(store, 1).await.len(), 1);
    let whole = Changes { expanded: vec![(id(2), 0, Some(NOW))], ..Changes::default() };
    store.commit(whole).await.unwrap();
    let fact = Fact::MessageDone { message: id(2).0, at: 0 };
    let last = told(store, 1).await.pop().unwrap().fact;
    assert_eq!((last.kind(), last.message()), (fact.kind(), fact.message()));
    // Later receipts do not end it again.
    store.commit(events(vec![event(id(2), 1, State::Clicked, 9)])).await.unwrap();
    assert_eq!(kinds(store, 1).await.len(), 2);
}

pub(in crate::store) async fn events_are_read_on_from_any_number_by_app_and_kind(store: &dyn Store) {
    for name in ["shop", "bank"] {
        let app = app(store, name).await;
        listen(store, app.seq, EventKind::every()).await;
        whole(store, app.seq, app.seq, 5000).await;
    }
    for at in 0..3 {
        let of = |app: i64| (0..900).map(move |n| event(id(app), 900 * at + n, State::Accepted, at));
        store.commit(events(of(1).chain(of(2)).collect())).await.unwrap();
    }
    for app in [1, 2] {
        let (mut after, mut all) = (0, Vec::new());
        loop {
            let page = store.events_after(app, EventKind::every(), after, 70).await.unwrap();
            assert!(page.rows.len() <= 70 && page.rows.iter().all(|row| row.number > after));
            if page.rows.is_empty() {
                break;
            }
            (after, all) = (page.read_to, [all, page.rows].concat());
        }
        assert_eq!(all.len(), 2700);
        assert!(all.iter().all(|row| row.fact.message() == Some(id(app))));
        assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
        let some = [all[3].clone(), all[1500].clone()];
        let numbers = [some[1].number, some[0].number, 1 << 40];
        assert_eq!(store.events_numbered(app, &numbers).await.unwrap(), some);
        let other = store.events_numbered(3 - app, &numbers).await.unwrap();
        assert!(other.is_empty(), "{other:?}");
        let clicked = EventKind::DeliveryClicked.bit();
        let none = store.events_after(app, clicked, 0, 70).await.unwrap();
        assert_eq!((none.rows.len(), none.read_to), (0, store.event_bounds().await.unwrap().last));
    }
}

pub(in crate::store) async fn a_retired_address_and_a_channel_in_trouble_are_told(store: &dyn Store) {
    app(store, "shop").await;
    listen(store, 1, EventKind::every()).await;
    let phone = device("a", vec![address("fcm", "t"), address("apns", "u")]);
    let phone = store.put_devices(1, vec![phone], NOW).await.unwrap().remove(0);
    let verdict = |provider: &str, version, reason, retire| AddressVerdict {
        app: 1,
        provider: provider.into(),
        device: phone.seq,
        version,
        reason,
        retire,
        since: None,
    };
    let (fcm, apns) = (&phone.addresses[1], &phone.addresses[0]);
    let addresses = vec![
        verdict("fcm", fcm.version, Reason::InvalidToken, true),
        verdict("apns", apns.version, Reason::WrongApp, false),
    ];
    store.commit(Changes { addresses, ..Changes::default() }).await.unwrap();
    let facts: Vec<_> = told(store, 1).await.into_iter().map(|row| row.fact).collect();
    let [Fact::AddressRetired { device, provider, reason, .. }] = facts.as_slice() else {
        panic!("{facts:?}");
    };
    assert_eq!((*device, provider.as_str(), *reason), (phone.seq, "fcm", Reason::InvalidToken.code()));
    let channel = store.channels().await.unwrap()[0].seq;
    for state in [2, 2, 0, 1, 0] {
        store.set_channel_state(channel, state, Some("why".into()), None, NOW).await.unwrap();
    }
    let told = kinds(store, 1).await;
    assert_eq!(told[1..], [EventKind::ChannelAuthFailed, EventKind::ChannelRecovered], "once each");
}

pub(in crate::store) async fn purged_events_are_gone_and_numbers_go_on(store: &dyn Store) {
    app(store, "shop").await;
    listen(store, 1, EventKind::every()).await;
    whole(store, 1, 1, 100).await;
    for target in 0..4 {
        store.commit(events(vec![event(id(1), target, State::Accepted, 1)])).await.unwrap();
    }
    assert_eq!(store.purge_events(0, NOW, 10).await.unwrap(), 0);
    assert_eq!(store.purge_events(u64::MAX >> 1, NOW, 2).await.unwrap(), 2);
    assert_eq!(store.purge_events(u64::MAX >> 1, NOW, 10).await.unwrap(), 1);
    let bounds = store.event_bounds().await.unwrap();
    assert_eq!((bounds.purged_to, bounds.last), (3, 4), "the newest row stays");
    assert!(store.events_numbered(1, &[1, 2, 3]).await.unwrap().is_empty());
    store.commit(events(vec![event(id(1), 9, State::Accepted, 1)])).await.unwrap();
    let numbers: Vec<_> = told(store, 1).await.iter().map(|row| row.number).collect();
    assert_eq!(numbers, [4, 5]);
}

pub(in crate::store) async fn a_watched_app_is_written_down_whole_and_says_since_when(store: &dyn Store) {
    app(store, "shop").await;
    listen(store, 1, EventKind::MessageDone.bit()).await;
    whole(store, 1, 1, 1).await;
    store.commit(events(vec![event(id(1), 1, State::Accepted, 1)])).await.unwrap();
    assert_eq!(kinds(store, 1).await, [EventKind::MessageDone]);
    let far = u64::MAX >> 2;
    assert_eq!(store.watch_events(1, far, NOW).await.unwrap(), 1);
    store.commit(events(vec![event(id(1), 1, State::Clicked, 1)])).await.unwrap();
    assert_eq!(kinds(store, 1).await.len(), 4);
    assert_eq!(store.watch_events(1, far, NOW).await.unwrap(), 1, "it goes on");
    // Once its time was over, a new one begins with what comes then.
    assert_eq!(store.watch_events(1, far + 1, far).await.unwrap(), 4);
}

pub(in crate::store) async fn a_webhook_is_changed_disabled_and_enabled_with_its_work(store: &dyn Store) {
    app(store, "shop").await;
    let made = listen(store, 1, EventKind::every()).await;
    let due = async || store.next_due(WorkKind::Webhook, made.seq).await.unwrap();
    assert!(made.seq > 0 && due().await.is_some());
    let attempt = |event| WebhookAttempt {
        seq: 0,
        event,
        kind: 1,
        attempt: 1,
        at: NOW,
        latency_ms: 5,
        status: Some(500),
        error: Some("refused".into()),
        next_at: Some(NOW + 5000),
    };
    let change = |failing_since, disable: Option<&str>, attempts| Changes {
        webhooks: vec![WebhookChange {
            webhook: made.seq,
            failing_since,
            disable: disable.map(str::to_owned),
            attempts,
        }],
        ..Changes::default()
    };
    store.commit(change(Some(NOW), None, (1..=1003).map(attempt).collect())).await.unwrap();
    let kept = store.webhook_attempts(made.seq, u64::MAX, 2000).await.unwrap();
    assert_eq!((kept.len(), kept[0].event, kept[0].seq), (1000, 1003, 1003), "newest first");
    // A change of something else leaves alone what the gateway found out.
    let other = WebhookRecord { url: "https://other.example/".into(), ..made.clone() };
    let changed = store.put_webhook(other, None).await.unwrap().unwrap();
    assert_eq!((changed.failing_since, changed.url.as_str()), (Some(NOW), "https://other.example/"));
    store.commit(change(Some(NOW), Some("failing"), vec![])).await.unwrap();
    store.commit(change(None, Some("gone"), vec![])).await.unwrap();
    let disabled = store.webhook(made.seq).await.unwrap().unwrap();
    assert_eq!(disabled.disabled.as_deref(), Some("failing"));
    assert_eq!(due().await, None);
    assert_eq!(kinds(store, 1).await, [EventKind::WebhookDisabled], "told once");
    let again = WebhookRecord { disabled: None, disabled_at: None, failing_since: None, ..disabled };
    let enabled = store.put_webhook(again, Some(begins(600_000))).await.unwrap().unwrap();
    assert_eq!((enabled.disabled, enabled.failing_since, due().await.is_some()), (None, None, true));
    assert!(!store.delete_webhook(2, made.seq).await.unwrap(), "another app's");
    assert!(store.delete_webhook(1, made.seq).await.unwrap());
    assert_eq!((store.webhooks(Some(1)).await.unwrap().len(), due().await), (0, None));
    store.commit(change(None, None, vec![attempt(1)])).await.unwrap();
    assert!(store.webhook_attempts(made.seq, u64::MAX, 9).await.unwrap().is_empty());
    let next = listen(store, 1, EventKind::every()).await;
    assert!(next.seq > made.seq, "a number is never given twice");
}
