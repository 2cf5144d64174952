//! Devices, addresses, audiences.

use std::collections::BTreeMap;

use anypush_providers::contract::{Reason, Token};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::samples::{NOW, address, app, device};
use crate::delivery::expression::Expression;
use crate::store::{
    AddressVerdict, Changes, DeviceFilter, DevicePatch, DevicePut, DeviceRecord, PhoneRecord, Store,
    StoreError,
};

async fn put(store: &dyn Store, devices: Vec<DevicePut>) -> Vec<DeviceRecord> {
    store.put_devices(1, devices, NOW).await.unwrap()
}

fn tagged(id: &str, tags: &[&str]) -> DevicePut {
    DevicePut { tags: tags.iter().map(ToString::to_string).collect(), ..device(id, vec![]) }
}

async fn retire(store: &dyn Store, of: &DeviceRecord, version: u32) {
    judge(store, of, version, Reason::InvalidToken, true).await;
}

async fn judge(store: &dyn Store, of: &DeviceRecord, version: u32, reason: Reason, retire: bool) {
    let verdict = AddressVerdict {
        app: 1,
        provider: "fcm".into(),
        device: of.seq,
        version,
        reason,
        retire,
        since: None,
    };
    store.commit(Changes { addresses: vec![verdict], ..Changes::default() }).await.unwrap();
}

/// Everybody who fits, in rounds of so many.
pub(super) async fn walk(store: &dyn Store, app: i64, expression: &Expression, limit: usize) -> Vec<u64> {
    let (mut after, mut walked) = (0, Vec::new());
    loop {
        let round = store.targets_matching(app, expression, after, limit).await.unwrap();
        assert!(round.devices.len() <= limit);
        walked.extend(round.devices.into_iter().map(|target| target.seq));
        let Some(next) = round.next else { return walked };
        assert!(next > after && walked.last().is_none_or(|last| *last <= next), "it gets on");
        after = next;
    }
}

async fn get(store: &dyn Store, id: &str) -> DeviceRecord {
    let filter = DeviceFilter { id: Some(id.into()), ..DeviceFilter::default() };
    store.devices(1, &filter, 0, 10).await.unwrap().pop().unwrap()
}

pub(in crate::store) async fn devices_come_back_in_the_order_given_with_all_they_were_given(
    store: &dyn Store,
) {
    app(store, "shop").await;
    let full = DevicePut {
        id: "b".into(),
        user_id: Some("ann".into()),
        platform: Some("ios".into()),
        enabled: true,
        tags: vec!["beta".into(), "de".into()],
        profile: BTreeMap::from([
            ("language".into(), json!("de")),
            ("attributes".into(), json!({"a": [1, "\""]})),
        ]),
        addresses: vec![address("fcm", "t1"), address("apns", "t2")],
    };
    let records = put(store, vec![full.clone(), device("a", vec![]), full.clone()]).await;
    assert_eq!(records.iter().map(|r| &*r.id).collect::<Vec<_>>(), ["b", "a", "b"]);
    let b = &records[0];
    assert_eq!((&b.user_id, &b.platform, b.enabled), (&full.user_id, &full.platform, true));
    assert_eq!((&b.tags, &b.profile), (&full.tags, &full.profile));
    assert_eq!(b.addresses.len(), 2);
    assert!(b.addresses.iter().all(|a| a.active && a.params["topic"] == "org.example"));
    assert_eq!(get(store, "b").await, *b);
    assert_eq!(store.device_ids(&[records[1].seq, b.seq, 99]).await.unwrap().len(), 2);
    assert!(put(store, vec![]).await.is_empty());
}

pub(in crate::store) async fn a_device_that_is_put_again_keeps_number_secret_and_unchanged_addresses(
    store: &dyn Store,
) {
    app(store, "shop").await;
    let first = put(
        store,
        vec![DevicePut {
            tags: vec!["old".into(), "both".into()],
            ..device("a", vec![address("fcm", "keep"), address("fcm", "drop")])
        }],
    )
    .await
    .remove(0);
    store.set_device_secret(1, "a", "user-a", b"mac").await.unwrap();
    let keep = first.addresses.iter().find(|a| a.token == "keep").unwrap();
    let mut moved = address("fcm", "new");
    moved.params.clear();
    let second = put(
        store,
        vec![DevicePut {
            tags: vec!["both".into(), "new".into()],
            ..device("a", vec![address("fcm", "keep"), moved.clone()])
        }],
    )
    .await
    .remove(0);
    assert_eq!((second.seq, second.username.as_deref(), second.epoch), (first.seq, Some("user-a"), 1));
    let tokens: Vec<_> = second.addresses.iter().map(|a| (&*a.token, a.version)).collect();
    assert_eq!(tokens, [("keep", keep.version), ("new", 3)]);
    for (tag, n) in [("old", 0), ("both", 1), ("new", 1)] {
        let found = store.targets_matching(1, &Expression::Tag(tag.into()), 0, 10).await.unwrap();
        assert_eq!(found.devices.len(), n, "{tag}");
    }
    // Other params: the same token is another address.
    moved.params.insert("region".into(), "eu".into());
    let third = put(store, vec![device("a", vec![moved])]).await.remove(0);
    assert_eq!(third.addresses.iter().map(|a| a.version).collect::<Vec<_>>(), [4]);
}

pub(in crate::store) async fn an_address_that_another_device_had_moves(store: &dyn Store) {
    app(store, "shop").await;
    put(store, vec![device("a", vec![address("fcm", "t")])]).await;
    put(store, vec![device("b", vec![address("fcm", "t")])]).await;
    assert!(get(store, "a").await.addresses.is_empty());
    assert_eq!(get(store, "b").await.addresses[0].token, "t");
    // Within one call too, in either order.
    put(store, vec![device("b", vec![]), device("a", vec![address("fcm", "t")])]).await;
    assert_eq!((get(store, "a").await.addresses.len(), get(store, "b").await.addresses.len()), (1, 0));
    put(store, vec![device("b", vec![address("fcm", "t")]), device("a", vec![])]).await;
    assert_eq!((get(store, "a").await.addresses.len(), get(store, "b").await.addresses.len()), (0, 1));
    // Another app's token is another address.
    app(store, "news").await;
    store.put_devices(2, vec![device("n", vec![address("fcm", "t")])], NOW).await.unwrap();
    assert_eq!(get(store, "b").await.addresses.len(), 1);
}

pub(in crate::store) async fn one_token_given_to_two_devices_goes_to_the_last(store: &dyn Store) {
    app(store, "shop").await;
    let both = vec![
        device("a", vec![address("fcm", "t")]),
        device("b", vec![address("fcm", "t"), address("fcm", "t")]),
    ];
    let records = put(store, both).await;
    assert_eq!((records[0].addresses.len(), records[1].addresses.len()), (0, 1));
}

pub(in crate::store) async fn a_retired_address_that_is_given_again_is_active_under_a_new_version(
    store: &dyn Store,
) {
    app(store, "shop").await;
    let a = put(store, vec![device("a", vec![address("fcm", "t")])]).await.remove(0);
    retire(store, &a, 1).await;
    let retired = get(store, "a").await.addresses.remove(0);
    assert_eq!((retired.active, retired.reason), (false, Some(Reason::InvalidToken)));
    let again = put(store, vec![device("a", vec![address("fcm", "t")])]).await.remove(0).addresses.remove(0);
    assert_eq!((again.active, again.reason, again.version), (true, None, 2));
}

pub(in crate::store) async fn a_verdict_on_an_older_version_changes_nothing(store: &dyn Store) {
    app(store, "shop").await;
    let a = put(store, vec![device("a", vec![address("fcm", "t1")])]).await.remove(0);
    put(store, vec![device("a", vec![address("fcm", "t2")])]).await;
    retire(store, &a, 1).await;
    assert!(get(store, "a").await.addresses[0].active);
    // A flag keeps the address; after a definite verdict it is no longer news.
    judge(store, &a, 2, Reason::WrongApp, false).await;
    let flagged = get(store, "a").await.addresses.remove(0);
    assert_eq!((flagged.active, flagged.reason), (true, Some(Reason::WrongApp)));
    retire(store, &a, 2).await;
    judge(store, &a, 2, Reason::WrongApp, false).await;
    let retired = get(store, "a").await.addresses.remove(0);
    assert_eq!((retired.active, retired.reason), (false, Some(Reason::InvalidToken)));
}

pub(in crate::store) async fn a_patch_changes_what_it_names_and_nothing_else(store: &dyn Store) {
    app(store, "shop").await;
    let whole = DevicePut {
        user_id: Some("ann".into()),
        platform: Some("ios".into()),
        profile: BTreeMap::from([("a".into(), json!(1)), ("b".into(), json!(2))]),
        ..tagged("x", &["one"])
    };
    let before =
        put(store, vec![DevicePut { addresses: vec![address("fcm", "t")], ..whole }]).await.remove(0);
    let patch = DevicePatch {
        user_id: Some(None),
        enabled: Some(false),
        profile: BTreeMap::from([("a".into(), json!(null)), ("c".into(), json!(3))]),
        ..DevicePatch::default()
    };
    let after = store.patch_device(1, "x", patch, NOW + 5).await.unwrap().unwrap();
    let profile = BTreeMap::from([("b".into(), json!(2)), ("c".into(), json!(3))]);
    let expected = DeviceRecord { user_id: None, enabled: false, profile, updated_at: NOW + 5, ..before };
    assert_eq!(after, expected);
    assert_eq!(get(store, "x").await, expected);
    let moved = DevicePatch {
        tags: Some(vec!["two".into()]),
        addresses: Some(vec![address("apns", "u")]),
        ..DevicePatch::default()
    };
    let after = store.patch_device(1, "x", moved, NOW + 6).await.unwrap().unwrap();
    assert_eq!((&*after.tags[0], &*after.addresses[0].provider, after.addresses.len()), ("two", "apns", 1));
    assert_eq!(store.patch_device(1, "none", DevicePatch::default(), NOW).await.unwrap(), None);
}

pub(in crate::store) async fn a_deleted_device_is_in_no_audience(store: &dyn Store) {
    app(store, "shop").await;
    let put_once = vec![DevicePut { addresses: vec![address("fcm", "t")], ..tagged("a", &["x"]) }];
    let a = put(store, put_once.clone()).await.remove(0);
    assert!(store.delete_device(1, "a").await.unwrap());
    assert!(!store.delete_device(1, "a").await.unwrap());
    let left = store.targets_matching(1, &Expression::Tag("x".into()), 0, 10).await.unwrap();
    assert!(left.devices.is_empty() && left.next.is_none());
    assert!(store.send_addresses(1, "fcm", &[a.seq]).await.unwrap().is_empty());
    assert!(put(store, put_once).await[0].seq > a.seq, "a number is never given twice");
}

pub(in crate::store) async fn filters_find_devices_by_id_user_tag_and_token(store: &dyn Store) {
    app(store, "shop").await;
    let mut other_kind = address("fcm", "t2");
    other_kind.kind = "web".into();
    let a = DevicePut {
        user_id: Some("ann".into()),
        addresses: vec![address("fcm", "t1")],
        ..tagged("a", &["x"])
    };
    let b =
        DevicePut { user_id: Some("ann".into()), addresses: vec![other_kind], ..tagged("b", &["x", "y"]) };
    put(store, vec![a, b, device("c", vec![])]).await;
    let found = async |filter: DeviceFilter| -> Vec<String> {
        let found = store.devices(1, &filter, 0, 10).await.unwrap();
        found.into_iter().map(|device| device.id).collect()
    };
    let any = DeviceFilter::default;
    assert_eq!(found(any()).await, ["a", "b", "c"]);
    assert_eq!(found(DeviceFilter { id: Some("c".into()), ..any() }).await, ["c"]);
    assert_eq!(found(DeviceFilter { user_id: Some("ann".into()), ..any() }).await, ["a", "b"]);
    assert_eq!(found(DeviceFilter { tag: Some("x".into()), ..any() }).await, ["a", "b"]);
    assert_eq!(found(DeviceFilter { token: Some(("fcm".into(), "t1".into())), ..any() }).await, ["a"]);
    assert_eq!(found(DeviceFilter { token: Some(("fcm".into(), "t2".into())), ..any() }).await, ["b"]);
    assert!(found(DeviceFilter { token: Some(("apns".into(), "t2".into())), ..any() }).await.is_empty());
    let both = DeviceFilter { tag: Some("y".into()), id: Some("a".into()), ..any() };
    assert!(found(both).await.is_empty());
}

pub(in crate::store) async fn a_secret_bumps_the_epoch_and_the_user_name_stays(store: &dyn Store) {
    app(store, "shop").await;
    put(store, vec![device("a", vec![]), device("b", vec![])]).await;
    let first = store.set_device_secret(1, "a", "u1", b"one").await.unwrap().unwrap();
    let second = store.set_device_secret(1, "a", "u2", b"two").await.unwrap().unwrap();
    assert_eq!((first.epoch, second.epoch, second.username.as_deref()), (1, 2, Some("u1")));
    let phone = PhoneRecord {
        username: "u1".into(),
        seq: second.seq,
        app: second.app,
        id: second.id,
        epoch: 2,
        secret_mac: b"two".to_vec(),
    };
    assert_eq!(store.phone("u1").await.unwrap(), Some(phone));
    assert_eq!(store.phone("u2").await.unwrap(), None);
    assert!(matches!(store.set_device_secret(1, "b", "u1", b"x").await, Err(StoreError::Exists(_))));
    assert_eq!(store.set_device_secret(1, "c", "u3", b"x").await.unwrap(), None);
}

pub(in crate::store) async fn an_audience_is_walked_by_number_without_gap_or_double(store: &dyn Store) {
    app(store, "shop").await;
    app(store, "news").await;
    let devices: Vec<_> = (0..25)
        .map(|i| DevicePut {
            user_id: Some(format!("u{}", i % 5)),
            ..tagged(&format!("d{i:02}"), if i % 2 == 0 { &["even"] } else { &[] })
        })
        .collect();
    let ids: Vec<_> = put(store, devices).await.into_iter().map(|device| device.seq).collect();
    store.put_devices(2, vec![tagged("foreign", &["even"])], NOW).await.unwrap();
    for (expression, expected) in [(Expression::All, 25), (Expression::Tag("even".into()), 13)] {
        let walked = walk(store, 1, &expression, 4).await;
        assert_eq!(walked.len(), expected);
        assert!(walked.is_sorted());
    }
    let named = store.targets_by_id(1, &["d03".into(), "foreign".into(), "d01".into()]).await.unwrap();
    assert_eq!(named.iter().map(|t| &*t.id).collect::<Vec<_>>(), ["d01", "d03"]);
    let users = ["u1".into(), "u9".into(), "u1".into()];
    assert_eq!(store.known_users(1, &users).await.unwrap(), ["u1"]);
    assert!(store.known_users(2, &users).await.unwrap().is_empty());
    assert_eq!(walk(store, 1, &Expression::Users(users.to_vec()), 2).await.len(), 5);
    assert_eq!(store.targets_by_number(1, &ids[3..6]).await.unwrap().len(), 3);
    assert_eq!(store.targets_by_number(2, &ids).await.unwrap().len(), 0);
}

pub(in crate::store) async fn callers_who_ask_at_the_same_time_each_get_what_they_would_alone(
    store: &dyn Store,
) {
    app(store, "shop").await;
    app(store, "news").await;
    let phone = |name: String| DevicePut {
        addresses: vec![address("fcm", &format!("{name}-f")), address("apns", &format!("{name}-a"))],
        ..tagged(&name, &[])
    };
    for (app, first) in [(1, "a"), (2, "b")] {
        let devices = (0..40).map(|i| phone(format!("{first}{i}"))).collect();
        store.put_devices(app, devices, NOW).await.unwrap();
    }
    let names = |i: usize| {
        let both = ["a", "b"].map(|first| format!("{first}{}", i % 40));
        let mut names = both.to_vec();
        names.extend([format!("nobody{i}"), format!("a{}", i % 7), both[0].clone()]);
        names.extend((0..i % 30).map(|n| format!("b{n}")));
        names
    };
    let ask = async |i: usize| {
        let (app, names) = (1 + i as i64 % 2, names(i));
        let found = store.targets_by_id(app, &names).await.unwrap();
        let devices: Vec<u64> = found.iter().map(|target| target.seq).chain([u64::MAX >> 1]).collect();
        let provider = if i.is_multiple_of(3) { "fcm" } else { "apns" };
        (found, store.send_addresses(app, provider, &devices).await.unwrap())
    };
    let together = join_all((0..300).map(&ask)).await;
    for (i, (found, addresses)) in together.into_iter().enumerate() {
        let mut known: Vec<_> =
            names(i).into_iter().filter(|name| name.starts_with(["a", "b"][i % 2])).collect();
        known.sort_unstable();
        known.dedup();
        let mut given: Vec<_> = found.iter().map(|target| target.id.clone()).collect();
        assert!(found.iter().all(|target| target.addresses.len() == 2) && found.is_sorted_by_key(|t| t.seq));
        given.sort_unstable();
        assert_eq!(given, known);
        let (provider, end) = if i.is_multiple_of(3) { ("fcm", "-f") } else { ("apns", "-a") };
        let tokens: Vec<_> = addresses.iter().map(|address| address.token.clone()).collect();
        assert_eq!(tokens, found.iter().map(|target| format!("{}{end}", target.id)).collect::<Vec<_>>());
        let brought = found.iter().flat_map(|target| &target.addresses);
        let brought =
            brought.filter(|address| address.provider == provider).map(|address| address.token.clone());
        assert_eq!(
            brought.collect::<Vec<_>>(),
            tokens.into_iter().map(Token::new).map(Some).collect::<Vec<_>>()
        );
        assert_eq!(ask(i).await, (found, addresses));
    }
}

pub(in crate::store) async fn an_audience_that_changes_while_it_is_walked_names_nobody_twice(
    store: &dyn Store,
) {
    app(store, "shop").await;
    let mut chance = StdRng::seed_from_u64(7);
    let expression = Expression::Tag("in".into());
    for walk in 0..30 {
        let name = |i: u32| format!("w{walk}-{i:03}");
        // What each device was while the walk went on: ever in the audience, ever out of it.
        let mut known: BTreeMap<u64, (bool, bool)> = BTreeMap::new();
        let mut tags = |record: &DeviceRecord, is_in: bool| {
            let seen = known.entry(record.seq).or_default();
            *seen = (seen.0 || is_in, seen.1 || !is_in);
        };
        for i in 0..40 {
            let is_in = chance.random_bool(0.7);
            let made = put(store, vec![tagged(&name(i), if is_in { &["in"] } else { &[] })]).await;
            tags(&made[0], is_in);
        }
        let (mut after, mut walked, mut next) = (0, Vec::new(), 40);
        loop {
            let round = store.targets_matching(1, &expression, after, 5).await.unwrap();
            walked.extend(round.devices.into_iter().map(|target| target.seq));
            let Some(reached) = round.next else { break };
            after = reached;
            for _ in 0..chance.random_range(0..4) {
                let id = name(chance.random_range(0..next));
                match chance.random_range(0..4) {
                    0 if next < 60 => {
                        tags(&put(store, vec![tagged(&name(next), &["in"])]).await[0], true);
                        next += 1;
                    }
                    1 => {
                        let named = DeviceFilter { id: Some(id.clone()), ..DeviceFilter::default() };
                        let found = store.devices(1, &named, 0, 1).await.unwrap();
                        for old in &found {
                            tags(old, false);
                        }
                        store.delete_device(1, &id).await.unwrap();
                    }
                    moves => {
                        let is_in = moves == 2;
                        let tags_now = Some(if is_in { vec!["in".into()] } else { Vec::new() });
                        let patch = DevicePatch { tags: tags_now, ..DevicePatch::default() };
                        if let Some(moved) = store.patch_device(1, &id, patch, NOW).await.unwrap() {
                            tags(&moved, is_in);
                        }
                    }
                }
            }
        }
        assert!(walked.windows(2).all(|two| two[0] < two[1]), "nobody twice: {walked:?}");
        for (seq, (ever_in, ever_out)) in known {
            assert!(ever_out || walked.contains(&seq), "{seq} was in it all the time");
            assert!(ever_in || !walked.contains(&seq), "{seq} was never in it");
        }
        for i in 0..next {
            store.delete_device(1, &name(i)).await.unwrap();
        }
    }
}

pub(in crate::store) async fn only_active_addresses_of_the_provider_are_sent_to(store: &dyn Store) {
    app(store, "shop").await;
    let devices = vec![
        device("a", vec![address("fcm", "a1"), address("fcm", "a2"), address("apns", "a3")]),
        device("b", vec![address("fcm", "b1")]),
    ];
    let records = put(store, devices).await;
    retire(store, &records[0], 1).await;
    let numbers = [records[0].seq, records[1].seq];
    let found = store.send_addresses(1, "fcm", &numbers).await.unwrap();
    assert_eq!(found.iter().map(|a| &*a.token).collect::<Vec<_>>(), ["a2", "b1"]);
    let targets = store.targets_by_number(1, &numbers).await.unwrap();
    assert_eq!(
        targets[0].addresses.iter().map(|a| (&*a.provider, a.version)).collect::<Vec<_>>(),
        [("apns", 3), ("fcm", 2)]
    );
}

pub(in crate::store) async fn neighbours_are_found_as_each_alone_would_be(store: &dyn Store) {
    app(store, "shop").await;
    app(store, "news").await;
    let phone = |i: u64| DevicePut {
        addresses: if i.is_multiple_of(5) { Vec::new() } else { vec![address("fcm", &format!("t{i}"))] },
        ..tagged(&format!("d{i}"), if i.is_multiple_of(7) { &[] } else { &["in"] })
    };
    let mut devices = Vec::new();
    for i in 0..150 {
        let made =
            store.put_devices(1 + i64::from(i % 11 == 3), vec![phone(i)], NOW).await.unwrap().remove(0);
        if i.is_multiple_of(13) && !i.is_multiple_of(5) {
            retire(store, &made, 1).await;
        }
        devices.push(made.seq);
    }
    let mut asked: Vec<u64> = devices.iter().copied().filter(|seq| !seq.is_multiple_of(4)).collect();
    asked.extend([asked[3], asked[40], u64::MAX >> 1]);
    for together in [&asked[..asked.len() - 1], &asked] {
        let (mut targets, mut addresses) = (Vec::new(), Vec::new());
        for seq in devices.iter().filter(|seq| !seq.is_multiple_of(4)) {
            targets.extend(store.targets_by_number(1, &[*seq]).await.unwrap());
            addresses.extend(store.send_addresses(1, "fcm", &[*seq]).await.unwrap());
        }
        assert!(targets.len() > 90 && addresses.len() > 70);
        assert_eq!(store.targets_by_number(1, together).await.unwrap(), targets);
        assert_eq!(store.send_addresses(1, "fcm", together).await.unwrap(), addresses);
    }
}
