//! Apps, keys, channels.

use std::collections::BTreeMap;

use anypush_providers::contract::Class;
use serde_json::json;

use super::samples::{NOW, app};
use crate::store::{CategoryRecord, ChannelRecord, KeyRecord, Store, StoreError};

pub(in crate::store) async fn a_fact_is_made_once_and_stays(store: &dyn Store) {
    assert_eq!(store.meta("id_key", b"one").await.unwrap(), b"one");
    assert_eq!(store.meta("id_key", b"two").await.unwrap(), b"one");
}

pub(in crate::store) async fn an_app_comes_with_its_direct_channel_and_its_name_is_taken(store: &dyn Store) {
    let shop = app(store, "shop").await;
    let taken = store.create_app("shop", ("app_x".into(), "chn_x".into()), NOW).await;
    assert!(matches!(taken, Err(StoreError::Exists(what)) if what.contains("shop")));
    let news = app(store, "news").await;
    assert_eq!(store.apps().await.unwrap(), [shop.clone(), news.clone()]);
    let channels = store.channels().await.unwrap();
    assert_eq!(channels.len(), 2);
    assert_eq!((channels[0].app, &*channels[0].name, &*channels[0].provider), (shop.seq, "direct", "direct"));
    assert_eq!(channels[1].public_id, "chn_news");
    assert_eq!(channels[1].config, json!({}));
}

fn key(id: &str, app: Option<i64>) -> KeyRecord {
    KeyRecord {
        id: id.into(),
        app,
        name: "backend".into(),
        mac: vec![1; 32],
        scopes: vec!["send".into(), "read".into()],
        created_at: NOW,
        expires_at: Some(NOW + 1),
        revoked_at: None,
    }
}

pub(in crate::store) async fn a_key_is_found_listed_and_revoked_in_its_own_app_only(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    store.create_key(key("aaaaaaaa", Some(shop))).await.unwrap();
    store.create_key(key("bbbbbbbb", None)).await.unwrap();
    assert!(matches!(store.create_key(key("aaaaaaaa", None)).await, Err(StoreError::Exists(_))));
    assert_eq!(store.key("aaaaaaaa").await.unwrap(), Some(key("aaaaaaaa", Some(shop))));
    assert_eq!(store.key("cccccccc").await.unwrap(), None);
    assert_eq!(store.keys(None).await.unwrap(), [key("bbbbbbbb", None)]);
    assert!(!store.revoke_key(None, "aaaaaaaa", NOW).await.unwrap());
    assert!(store.revoke_key(Some(shop), "aaaaaaaa", NOW + 5).await.unwrap());
    assert_eq!(store.keys(Some(shop)).await.unwrap()[0].revoked_at, Some(NOW + 5));
}

pub(super) fn channel(app: i64, name: &str) -> ChannelRecord {
    ChannelRecord {
        seq: 0,
        public_id: format!("chn_{app}_{name}"),
        app,
        name: name.into(),
        provider: "fcm".into(),
        config: json!({"project_id": "p"}),
        secrets: Some(vec![9; 40]),
        limits: json!({"per_second": 5}),
        state: 0,
        state_info: None,
        version: 1,
        callback: 0,
        created_at: NOW,
        updated_at: NOW,
        deleted_at: None,
    }
}

pub(in crate::store) async fn a_channel_that_is_put_again_keeps_its_number_and_gets_a_new_version(
    store: &dyn Store,
) {
    let shop = app(store, "shop").await.seq;
    let first = store.put_channel(channel(shop, "fcm"), Vec::new()).await.unwrap();
    assert_eq!(ChannelRecord { seq: first.seq, ..channel(shop, "fcm") }, first);
    store.set_channel_state(first.seq, 2, Some("refused".into()), None, NOW + 1).await.unwrap();
    assert_eq!(store.channels().await.unwrap()[1].state_info.as_deref(), Some("refused"));
    let again = ChannelRecord { public_id: "chn_new".into(), updated_at: NOW + 9, ..channel(shop, "fcm") };
    let second = store.put_channel(again, Vec::new()).await.unwrap();
    assert_eq!((second.seq, &second.public_id, second.version), (first.seq, &first.public_id, 2));
    assert_eq!((second.state, second.created_at, second.updated_at), (0, NOW, NOW + 9));
}

pub(in crate::store) async fn a_deleted_channel_frees_its_name_and_still_names_old_trails(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let old = store.put_channel(channel(shop, "fcm"), Vec::new()).await.unwrap();
    assert!(store.delete_channel(shop, "fcm", NOW + 1).await.unwrap());
    assert!(!store.delete_channel(shop, "fcm", NOW + 2).await.unwrap());
    let new = store
        .put_channel(ChannelRecord { public_id: "chn_2".into(), ..channel(shop, "fcm") }, Vec::new())
        .await
        .unwrap();
    assert_ne!(new.seq, old.seq);
    let all = store.channels().await.unwrap();
    let kept = all.iter().find(|channel| channel.seq == old.seq).unwrap();
    assert_eq!((&*kept.name, kept.deleted_at, &kept.secrets), ("fcm", Some(NOW + 1), &None));
}

pub(in crate::store) async fn a_category_belongs_to_its_app_and_keeps_its_age(store: &dyn Store) {
    let (shop, news) = (app(store, "shop").await.seq, app(store, "news").await.seq);
    let settings = json!({"channel_id": "4711"}).as_object().unwrap().clone();
    let category = |app, name: &str, at| CategoryRecord {
        app,
        name: name.into(),
        class: Some(Class::Marketing),
        providers: BTreeMap::from([("mill".to_owned(), settings.clone())]),
        created_at: at,
        updated_at: at,
    };
    for name in ["b", "a", "c"] {
        let made = store.put_category(category(shop, name, NOW)).await.unwrap();
        assert_eq!(made, (category(shop, name, NOW), true));
    }
    let bare = CategoryRecord { class: None, providers: BTreeMap::new(), ..category(shop, "b", NOW + 5) };
    let (changed, is_new) = store.put_category(bare.clone()).await.unwrap();
    assert_eq!((&changed, is_new), (&CategoryRecord { created_at: NOW, ..bare }, false));
    assert_eq!(store.category(shop, "b").await.unwrap(), Some(changed));
    assert_eq!(store.category(news, "b").await.unwrap(), None);
    let names = |all: Vec<CategoryRecord>| all.into_iter().map(|c| c.name).collect::<Vec<_>>();
    assert_eq!(names(store.categories(shop, "", 2).await.unwrap()), ["a", "b"]);
    assert_eq!(names(store.categories(shop, "b", 2).await.unwrap()), ["c"]);
    assert!(!store.delete_category(news, "b").await.unwrap());
    assert!(store.delete_category(shop, "b").await.unwrap());
    assert!(!store.delete_category(shop, "b").await.unwrap());
}
