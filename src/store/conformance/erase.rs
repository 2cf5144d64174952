//! Erasing: what names a person goes, wherever a call put it; counts and what is others' stay.

use std::collections::BTreeMap;

use super::samples::{NOW, address, app, count, device, event, id, message, work};
use crate::delivery::spec::{Audience, GivenAddress};
use crate::delivery::state::{State, View};
use crate::ids::{GIVEN_TARGETS, Id};
use crate::store::{Changes, DevicePut, Lease, NewMessage, NewTarget, NewWork, Store, WorkKind};
use anypush_providers::contract::{Address, Token};

const SPEC: &str = r#"{"content":{"notification":{"title":"For Ann"},"data":{"code":"4711"},"priority":"high"},
    "ttl_seconds":60,"metadata":{"order":"of Ann"}}"#;

async fn phone(store: &dyn Store, app: i64, name: &str, user: &str) -> u64 {
    let put = DevicePut {
        user_id: Some(user.into()),
        ..device(name, vec![address("fcm", &format!("token-of-{name}-which-is-long"))])
    };
    store.put_devices(app, vec![put], NOW).await.unwrap()[0].seq
}

/// A message that was handed over to these, among so many.
async fn sent(store: &dyn Store, app: i64, n: i64, to: &[u64], given: Vec<(Id, u64, NewTarget)>, more: u64) {
    let targeted = (to.len() + given.len()) as u64 + more;
    let targets = to.iter().copied().chain(given.iter().map(|(_, index, _)| GIVEN_TARGETS + index));
    let changes = Changes {
        expanded: vec![(id(n), targeted, Some(NOW))],
        events: targets.map(|target| event(id(n), target, State::Accepted, 1)).collect(),
        targets: given,
        ..Changes::default()
    };
    store.accept(NewMessage { spec: SPEC.into(), ..message(app, n) }, changes).await.unwrap();
}

async fn says(store: &dyn Store, n: i64) -> bool {
    let spec = store.message(id(n)).await.unwrap().unwrap().spec;
    let told = ["Ann", "4711"].map(|word| spec.contains(word));
    assert_eq!(told[0], told[1], "all or nothing: {spec}");
    let read: crate::delivery::spec::Spec = serde_json::from_str(&spec).unwrap();
    assert_eq!(read.ttl_seconds, 60, "what is left of it still reads");
    told[0]
}

pub(in crate::store) async fn what_was_said_to_erased_devices_alone_is_forgotten(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let (a, b) = (phone(store, shop, "a", "ann").await, phone(store, shop, "b", "ann").await);
    let c = phone(store, shop, "c", "bob").await;
    sent(store, shop, 1, &[a], vec![], 0).await;
    sent(store, shop, 2, &[a, b], vec![], 0).await;
    sent(store, shop, 3, &[a, c], vec![], 0).await;
    // One target stands in a page yet.
    sent(store, shop, 4, &[a], vec![], 1).await;
    sent(store, shop, 5, &[c], vec![], 0).await;
    assert!(store.delete_device(shop, "a").await.unwrap());
    let said =
        async || [says(store, 1).await, says(store, 2).await, says(store, 3).await, says(store, 4).await];
    assert_eq!(said().await, [false, true, true, true]);
    assert_eq!(store.delete_devices_of(shop, "ann", 100).await.unwrap(), [(b, "b".to_owned())]);
    assert_eq!(said().await, [false, false, true, true], "the last of those whom it was for is gone");
    assert!(says(store, 5).await);
    for n in 1..=5 {
        let counters = store.counters(id(n)).await.unwrap();
        assert_eq!(count(&counters, View::Now, State::Accepted), [1, 2, 2, 1, 1][n as usize - 1]);
    }
}

pub(in crate::store) async fn what_calls_gave_of_erased_people_is_forgotten_in_their_own_app(
    store: &dyn Store,
) {
    let (shop, bank) = (app(store, "shop").await.seq, app(store, "bank").await.seq);
    phone(store, shop, "a", "ann").await;
    let token = |n: i64, index, token: &str| {
        let target = NewTarget {
            provider: Some("fcm".into()),
            kind: Some("token".into()),
            token: Some(token.into()),
            params: Some("{}".into()),
            given: None,
        };
        (id(n), index, target)
    };
    let unknown = |n: i64, index, given: &str| {
        (id(n), index, NewTarget { given: Some(given.into()), ..NewTarget::default() })
    };
    let of_a = "token-of-a-which-is-long";
    sent(store, shop, 1, &[], vec![token(1, 0, of_a)], 0).await;
    // Another token with the same end, and the same token at another app.
    let others = vec![token(2, 0, "x-token-of-a-which-is-long"), unknown(2, 1, "ann"), unknown(2, 2, "bob")];
    sent(store, shop, 2, &[], others, 0).await;
    sent(store, bank, 3, &[], vec![token(3, 0, of_a), unknown(3, 1, "ann")], 0).await;
    sent(store, shop, 4, &[], vec![unknown(4, 0, "a")], 0).await;
    store.delete_devices_of(shop, "ann", 100).await.unwrap();
    let given = async |n| -> Vec<Option<String>> {
        let found = store.given_targets(id(n), &[0, 1, 2]).await.unwrap();
        found.into_iter().map(|(_, target)| target.token.or(target.given)).collect()
    };
    assert_eq!(given(1).await, [None]);
    assert_eq!(given(2).await, [Some("x-token-of-a-which-is-long".into()), None, Some("bob".into())]);
    assert_eq!(given(3).await, [Some(of_a.to_owned()), Some("ann".into())]);
    assert_eq!(given(4).await, [None]);
    assert_eq!([says(store, 1).await, says(store, 2).await, says(store, 3).await], [false, true, true]);
    let row = store.deliveries_of(id(1), &[GIVEN_TARGETS]).await.unwrap().remove(0);
    assert!(row.vendor_id.is_none() && row.trail.is_empty() && row.state == State::Accepted);
}

pub(in crate::store) async fn audiences_that_are_looked_up_later_do_not_name_erased_people(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    phone(store, shop, "a", "ann").await;
    let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let given = |token: &str| GivenAddress {
        provider: "fcm".into(),
        address: Address { kind: "token".into(), token: Token::new(token), params: BTreeMap::default() },
    };
    let audiences = [
        Audience::Users(list(&["ann", "bob"])),
        Audience::Devices(list(&["c", "a"])),
        Audience::Addresses(vec![given("token-of-a-which-is-long"), given("another")]),
    ];
    for (n, audience) in audiences.iter().enumerate() {
        let expand = NewWork {
            kind: WorkKind::Expand,
            app: shop,
            payload: serde_json::to_vec(audience).unwrap(),
            ..work(100 + n as i64, id(n as i64), 0, NOW + 60_000)
        };
        let new = NewMessage { send_at: Some(NOW + 60_000), ..message(shop, n as i64) };
        store.accept(new, Changes { work: vec![expand], ..Changes::default() }).await.unwrap();
    }
    store.delete_devices_of(shop, "ann", 100).await.unwrap();
    let lease = Lease {
        kind: WorkKind::Expand,
        channel: 0,
        lane: None,
        node: 0,
        epoch: 1,
        now_ms: NOW + 60_000,
        until_ms: NOW + 90_000,
        limit: 10,
    };
    let left: Vec<Audience> = store
        .lease(lease)
        .await
        .unwrap()
        .iter()
        .map(|item| serde_json::from_slice(&item.payload).unwrap())
        .collect();
    let expected = [
        Audience::Users(list(&["bob"])),
        Audience::Devices(list(&["c"])),
        Audience::Addresses(vec![given("another")]),
    ];
    assert_eq!(left, expected);
}
