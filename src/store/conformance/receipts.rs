//! Callbacks and what they report.

use anypush_providers::contract::{Reason, ReceiptEvent, VendorEcho, Witness};
use bytes::Bytes;

use super::administration::channel;
use super::samples::{NOW, address, app, count, device, event, events, id, message};
use crate::delivery::state::{State, View};
use crate::delivery::trail::{self, TrailEntry};
use crate::store::{AddressVerdict, Changes, NewTarget, RawReceipt, Store, VendorReceipt};

fn raw(body: &[u8]) -> RawReceipt {
    let (method, envelope) = ("POST".into(), vec![1, 2, 3]);
    RawReceipt { seq: 0, channel: 4, received_at: NOW, method, envelope, body: Bytes::copy_from_slice(body) }
}

fn said(n: i64, target: u64, channel: i64, event: ReceiptEvent) -> VendorReceipt {
    VendorReceipt {
        message: id(n),
        target,
        channel,
        event,
        witness: Witness::Vendor,
        received_at: NOW + 50,
        vendor: VendorEcho { code: Some("7".into()), ..VendorEcho::default() },
    }
}

pub(in crate::store) async fn callbacks_are_journalled_in_order_and_never_under_an_old_number(
    store: &dyn Store,
) {
    store.journal_receipts(vec![raw(b"a"), raw(b"b")]).await.unwrap();
    store.journal_receipts(vec![raw(b"c")]).await.unwrap();
    let rows = store.journal_after(0, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| &row.body[..]).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert_eq!(rows[0], RawReceipt { seq: rows[0].seq, ..raw(b"a") });
    assert_eq!(store.journal_after(rows[0].seq, 1).await.unwrap(), rows[1..2]);
    assert_eq!(store.journal_rows().await.unwrap(), 3);
    let journal_done = rows.iter().map(|row| row.seq).collect();
    store.commit(Changes { journal_done, ..Changes::default() }).await.unwrap();
    assert_eq!(store.journal_rows().await.unwrap(), 0);
    store.journal_receipts(vec![raw(b"d")]).await.unwrap();
    assert!(store.journal_after(0, 1).await.unwrap()[0].seq > rows[2].seq);
}

pub(in crate::store) async fn a_read_of_the_journal_is_bounded_in_bytes_but_never_empty(store: &dyn Store) {
    let big = vec![7; 3 * 1024 * 1024];
    store.journal_receipts(vec![raw(&big), raw(&big), raw(b"small")]).await.unwrap();
    let first = store.journal_after(0, 10).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(store.journal_after(first[0].seq, 10).await.unwrap().len(), 2);
}

pub(in crate::store) async fn a_vendors_word_moves_rows_and_counters_and_ends_its_journal_row(
    store: &dyn Store,
) {
    store.accept(message(1, 1), events(vec![event(id(1), 7, State::Accepted, 9)])).await.unwrap();
    store.journal_receipts(vec![raw(b"a")]).await.unwrap();
    let seq = store.journal_after(0, 1).await.unwrap()[0].seq;
    let displayed = said(1, 7, 1, ReceiptEvent::Displayed);
    let dismissed = said(1, 7, 1, ReceiptEvent::Dismissed);
    let receipts = vec![displayed.clone(), displayed, dismissed.clone(), dismissed];
    let changes = Changes { receipts, journal_done: vec![seq], ..Changes::default() };
    store.commit(changes.clone()).await.unwrap();
    assert_eq!(store.journal_rows().await.unwrap(), 0);
    let row = store.recorded(&[(id(1), 7), (id(1), 8)]).await.unwrap();
    assert_eq!(store.unrecorded(&[(id(1), 7), (id(1), 8)]).await.unwrap(), [(id(1), 8)]);
    assert_eq!((row.len(), row[0].state, row[0].reached_ms[2]), (1, State::Displayed, Some(50)));
    assert_eq!(trail::decode(&row[0].trail).len(), 3, "each once, behind the attempt");
    let counters = store.counters(id(1)).await.unwrap();
    assert_eq!(count(&counters, View::Now, State::Displayed), 1);
    assert_eq!(count(&counters, View::Reached, State::Delivered), 1);
    store.commit(changes).await.unwrap();
    assert_eq!(store.recorded(&[(id(1), 7)]).await.unwrap(), row);
    assert_eq!(store.counters(id(1)).await.unwrap(), counters);
}

pub(in crate::store) async fn a_vendors_word_about_nothing_recorded_leaves_no_trace(store: &dyn Store) {
    store.accept(message(1, 1), Changes::default()).await.unwrap();
    let receipts = vec![said(1, 7, 1, ReceiptEvent::Delivered), said(2, 7, 1, ReceiptEvent::Clicked)];
    store.commit(Changes { receipts, ..Changes::default() }).await.unwrap();
    assert!(store.recorded(&[(id(1), 7), (id(2), 7)]).await.unwrap().is_empty());
    assert_eq!(store.unrecorded(&[(id(1), 7), (id(2), 7)]).await.unwrap(), [(id(1), 7), (id(2), 7)]);
    assert!(store.counters(id(1)).await.unwrap().is_empty());
}

pub(in crate::store) async fn what_is_not_recorded_yet_is_known_of_many_while_a_message_is_under_way_and_after(
    store: &dyn Store,
) {
    let pairs: Vec<_> = (0..200).map(|target| (id(1), target)).chain([(id(2), 1)]).collect();
    let accepted =
        |targets: std::ops::Range<u64>| targets.map(|target| event(id(1), target, State::Accepted, 9));
    // Its audience is not whole yet, then one delivery is pending, then none is.
    store.accept(message(1, 1), events(accepted(0..198).collect())).await.unwrap();
    let missing = [(id(1), 198), (id(1), 199), (id(2), 1)];
    let told = async || store.unrecorded(&pairs).await.unwrap();
    assert_eq!(told().await, missing);
    let expanded = vec![(id(1), 200, Some(NOW))];
    let last = event(id(1), 198, State::Pending, 9);
    let changes = Changes { expanded, ..events(accepted(199..200).chain([last]).collect()) };
    store.commit(changes).await.unwrap();
    assert_eq!(told().await, [(id(2), 1)]);
    store.commit(events(accepted(198..199).collect())).await.unwrap();
    assert_eq!(told().await, [(id(2), 1)]);
}

pub(in crate::store) async fn a_channel_speaks_only_for_what_it_still_has(store: &dyn Store) {
    let accepted = (7..11).map(|target| event(id(1), target, State::Accepted, 9)).collect();
    store.accept(message(1, 1), events(accepted)).await.unwrap();
    store.commit(events(vec![event(id(1), 9, State::Delivered, 9)])).await.unwrap();
    let failed = ReceiptEvent::failed(Reason::DeviceUnavailable);
    let receipts = vec![
        said(1, 7, 1, failed),
        said(1, 8, 2, failed),
        said(1, 9, 1, failed),
        said(1, 10, 1, failed),
        said(1, 10, 1, ReceiptEvent::Delivered),
    ];
    store.commit(Changes { receipts, ..Changes::default() }).await.unwrap();
    let rows = store.deliveries_of(id(1), &[7, 8, 9, 10]).await.unwrap();
    let states: Vec<_> = rows.iter().map(|row| row.state).collect();
    assert_eq!(states, [State::Failed, State::Accepted, State::Delivered, State::Delivered]);
    assert_eq!(rows[0].reason, Some(Reason::DeviceUnavailable));
    assert!(matches!(
        trail::decode(&rows[0].trail).pop(),
        Some(TrailEntry::FailedLater { at_ms: 50, channel: 1, code: Some(_), .. })
    ));
    let counters = store.counters(id(1)).await.unwrap();
    assert_eq!(counters.iter().filter(|c| c.view == View::Now).map(|c| c.n).sum::<u64>(), 4);
}

pub(in crate::store) async fn tokens_lead_to_devices_even_when_retired_and_to_given_targets(
    store: &dyn Store,
) {
    let (shop, bank) = (app(store, "shop").await.seq, app(store, "bank").await.seq);
    let devices = vec![device("a", vec![address("x", "t1")]), device("b", vec![address("x", "t2")])];
    let found = store.put_devices(shop, devices, NOW).await.unwrap();
    let verdict = AddressVerdict {
        app: shop,
        provider: "x".into(),
        device: found[0].seq,
        version: 1,
        reason: Reason::InvalidToken,
        retire: true,
        since: None,
    };
    let given = NewTarget {
        provider: Some("x".into()),
        kind: Some("token".into()),
        token: Some("t9".into()),
        ..NewTarget::default()
    };
    let targets = vec![(id(1), 3, given)];
    let changes = Changes { addresses: vec![verdict], targets, ..Changes::default() };
    store.accept(message(shop, 1), changes).await.unwrap();
    let tokens: Vec<String> = ["t1", "t2", "t9", "none"].map(Into::into).to_vec();
    let mut told = store.token_devices(shop, "x", &["other", "token"], &tokens).await.unwrap();
    told.sort();
    assert_eq!(told, [("t1".into(), found[0].seq, 1), ("t2".into(), found[1].seq, 1)]);
    assert!(store.token_devices(bank, "x", &["token"], &tokens).await.unwrap().is_empty());
    assert!(store.token_devices(shop, "y", &["token"], &tokens).await.unwrap().is_empty());
    assert_eq!(store.given_tokens(id(1), &tokens).await.unwrap(), [("t9".into(), 3)]);
    assert!(store.given_tokens(id(2), &tokens).await.unwrap().is_empty());
}

pub(in crate::store) async fn a_new_callback_secret_outlives_a_put(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let first = store.put_channel(channel(shop, "x"), Vec::new()).await.unwrap();
    assert!(store.rotate_callback(shop, "x", NOW + 1).await.unwrap());
    assert!(!store.rotate_callback(shop, "none", NOW + 1).await.unwrap());
    let again = store.put_channel(channel(shop, "x"), Vec::new()).await.unwrap();
    assert_eq!((first.callback, again.callback), (0, 1));
}
