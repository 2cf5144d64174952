//! Registration keys, and phones that register themselves.

use super::samples::{NOW, address, app, device};
use crate::store::{DevicePatch, DevicePut, Registered, Registration, RegistrationKeyRecord, Store};

fn key(app: i64, id: &str) -> RegistrationKeyRecord {
    RegistrationKeyRecord {
        id: id.into(),
        app,
        name: "backend".into(),
        algorithm: 1,
        key: vec![7; 60],
        created_at: NOW,
        revoked_at: None,
    }
}

pub(in crate::store) async fn a_registration_key_is_found_listed_and_revoked_in_its_own_app_only(
    store: &dyn Store,
) {
    let (shop, news) = (app(store, "shop").await.seq, app(store, "news").await.seq);
    store.put_registration_key(key(shop, "rk_a")).await.unwrap();
    store.put_registration_key(key(news, "rk_b")).await.unwrap();
    assert_eq!(store.registration_key("rk_a").await.unwrap(), Some(key(shop, "rk_a")));
    assert_eq!(store.registration_key("rk_c").await.unwrap(), None);
    assert_eq!(store.registration_keys(shop).await.unwrap(), [key(shop, "rk_a")]);
    assert!(!store.revoke_registration_key(news, "rk_a", NOW + 1).await.unwrap());
    assert!(store.revoke_registration_key(shop, "rk_a", NOW + 1).await.unwrap());
    assert!(store.revoke_registration_key(shop, "rk_a", NOW + 9).await.unwrap());
    let revoked = store.registration_key("rk_a").await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at, Some(NOW + 1), "the first time counts");
}

fn registration(app: i64, nonce: u8, username: &str) -> Registration {
    let patch = DevicePatch {
        user_id: Some(Some("u-1".into())),
        addresses: Some(vec![address("played", "token-1")]),
        ..DevicePatch::default()
    };
    Registration {
        app,
        key: "rk_a".into(),
        nonce: [nonce; 32],
        until: NOW + 600_000,
        device: "phone".into(),
        patch,
        username: username.into(),
        mac: vec![nonce; 32],
    }
}

pub(in crate::store) async fn a_nonce_registers_once_and_a_device_keeps_number_name_and_tags(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    let before = DevicePut { tags: vec!["vip".into()], ..device("phone", vec![]) };
    let made = store.put_devices(shop, vec![before], NOW).await.unwrap().remove(0);
    let Registered::Done(first) = store.register_device(registration(shop, 1, "one"), NOW).await.unwrap()
    else {
        panic!("refused")
    };
    assert_eq!((first.seq, first.user_id.as_deref(), &first.tags), (made.seq, Some("u-1"), &made.tags));
    assert_eq!((first.username.as_deref(), first.addresses.len()), (Some("one"), 1));
    let again = store.register_device(registration(shop, 1, "one"), NOW + 5).await.unwrap();
    assert_eq!(again, Registered::Replayed);
    let other = store.register_device(registration(shop, 2, "two"), NOW + 5).await.unwrap();
    assert_eq!(other, Registered::Named("one".into()));
    let Registered::Done(second) =
        store.register_device(registration(shop, 2, "one"), NOW + 5).await.unwrap()
    else {
        panic!("the nonce was not used up by the answer before")
    };
    assert_eq!((second.secret_mac, second.epoch), (Some(vec![2; 32]), first.epoch + 1));
}

pub(in crate::store) async fn a_phone_that_nobody_knew_is_made_and_a_token_that_moves_leaves_the_old_one(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    store.put_devices(shop, vec![device("old", vec![address("played", "token-1")])], NOW).await.unwrap();
    let done = store.register_device(registration(shop, 1, "one"), NOW).await.unwrap();
    let Registered::Done(new) = done else { panic!("{done:?}") };
    assert!(new.enabled);
    let old = store.targets_by_id(shop, &["old".into()]).await.unwrap().remove(0);
    assert!(old.addresses.is_empty());
}
