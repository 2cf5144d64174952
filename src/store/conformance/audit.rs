//! The audit log: a row for each change, in the name of who acts, in the change's own transaction.

use serde_json::json;

use super::administration::channel;
use super::samples::{NOW, address, app, device, id, message};
use crate::audit::{self, Who};
use crate::store::{AuditFilter, AuditRow, CategoryRecord, Changes, ChannelRecord, Store};

async fn log(store: &dyn Store, filter: AuditFilter) -> Vec<AuditRow> {
    store.audit(&filter, None, 100).await.unwrap()
}

fn did(rows: &[AuditRow]) -> Vec<(&str, &str)> {
    rows.iter().rev().map(|row| (row.action.as_str(), row.object.as_str())).collect()
}

pub(in crate::store) async fn what_was_changed_is_told_in_the_name_of_who_acts(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let actor = audit::Actor {
        who: Who::Key("1a2b3c4d".into()),
        ip: Some("192.0.2.7".parse().unwrap()),
        request_id: Some("req_1".into()),
    };
    let category = |at| CategoryRecord {
        app: shop,
        name: "news".into(),
        created_at: at,
        updated_at: at,
        ..CategoryRecord::default()
    };
    audit::acting(actor, async {
        store.put_category(category(NOW)).await.unwrap();
        store.put_category(category(NOW + 1)).await.unwrap();
        store.delete_category(shop, "news").await.unwrap();
        store.put_channel(channel(shop, "main"), vec!["key".into()]).await.unwrap();
    })
    .await;
    store.rotate_callback(shop, "main", NOW).await.unwrap();
    let rows = log(store, AuditFilter { app: Some(shop), ..AuditFilter::default() }).await;
    let expected = [
        ("app.create", "apps/app_shop"),
        ("category.put", "categories/news"),
        ("category.put", "categories/news"),
        ("category.delete", "categories/news"),
        ("channel.put", "channels/main"),
        ("channel.rotate_callback", "channels/main"),
    ];
    assert_eq!(did(&rows), expected);
    let [rotated, put, gone, again, made, _] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&*made.actor, made.ip.as_deref()), ("key:1a2b3c4d", Some("192.0.2.7")));
    assert_eq!(made.request_id.as_deref(), Some("req_1"));
    assert_eq!(rotated.actor, "gateway");
    // Equal things look equal, whenever they were made.
    assert!(made.before.is_none() && made.after.is_some());
    assert_eq!((&again.before, &again.after), (&made.after, &made.after));
    assert_eq!((&gone.before, &gone.after), (&made.after, &None));
    assert_eq!(put.details.as_deref(), Some(r#"{"provider":"fcm","secrets_given":["key"],"version":1}"#));
    assert!(!format!("{rows:?}").contains("project_id"), "of a configuration only a fingerprint is kept");
}

pub(in crate::store) async fn what_came_to_nothing_is_not_told(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let before = log(store, AuditFilter::default()).await;
    assert!(!store.delete_category(shop, "x").await.unwrap());
    assert!(!store.delete_channel(shop, "x", NOW).await.unwrap());
    assert!(!store.rotate_callback(shop, "x", NOW).await.unwrap());
    assert!(!store.revoke_key(Some(shop), "x", NOW).await.unwrap());
    assert!(!store.delete_device(shop, "x").await.unwrap());
    assert!(store.create_app("shop", ("app_x".into(), "chn_x".into()), NOW).await.is_err());
    store.cancel(id(9), "msg_9", NOW).await.unwrap();
    let taken = ChannelRecord { public_id: "chn_shop".into(), ..channel(shop, "main") };
    assert!(store.put_channel(taken, Vec::new()).await.is_err());
    assert_eq!(log(store, AuditFilter::default()).await, before);
}

pub(in crate::store) async fn a_cancel_is_told_once_and_a_token_that_moves_each_time(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    store.accept(message(shop, 1), Changes::default()).await.unwrap();
    for _ in 0..2 {
        store.cancel(id(1), "msg_1", NOW).await.unwrap();
    }
    for name in ["a", "a", "b"] {
        store.put_devices(shop, vec![device(name, vec![address("fcm", "t")])], NOW).await.unwrap();
    }
    let rows = log(store, AuditFilter { app: Some(shop), ..AuditFilter::default() }).await;
    let expected = [
        ("app.create", "apps/app_shop"),
        ("message.cancel", "messages/msg_1"),
        ("address.move", "devices/b"),
    ];
    assert_eq!(did(&rows), expected);
    assert_eq!(rows[0].details, Some(json!({"from": "a", "provider": "fcm"}).to_string()));
}

pub(in crate::store) async fn the_log_is_read_by_app_time_action_and_object(store: &dyn Store) {
    let (shop, news) = (app(store, "shop").await.seq, app(store, "news").await.seq);
    for (app, name) in [(shop, "a"), (shop, "b"), (news, "a")] {
        let category = CategoryRecord { app, name: name.into(), ..CategoryRecord::default() };
        store.put_category(category).await.unwrap();
    }
    let all = log(store, AuditFilter::default()).await;
    assert_eq!(all.iter().map(|row| row.seq).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    let put = Some("category.put".to_owned());
    let filter = AuditFilter { app: Some(shop), action: put.clone(), ..AuditFilter::default() };
    assert_eq!(log(store, filter.clone()).await.len(), 2);
    assert_eq!(store.audit(&filter, Some(4), 1).await.unwrap()[0].object, "categories/a");
    let of_a = AuditFilter { object: Some("categories/a".into()), ..AuditFilter::default() };
    assert_eq!(log(store, of_a).await.len(), 2);
    let at = all[0].at;
    let before = AuditFilter { to: Some(all[4].at), ..AuditFilter::default() };
    let since = AuditFilter { from: Some(all[4].at), to: Some(at + 1), ..AuditFilter::default() };
    assert_eq!((log(store, before).await.len(), log(store, since).await.len()), (0, 5));
}
