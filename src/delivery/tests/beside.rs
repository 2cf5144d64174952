//! What a provider is handed beside the targets: what the category says to it, and where its vendor may report to.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::{APP, Rig};
use crate::delivery::spec::{Spec, SpecCategory};
use crate::store::{CategoryRecord, Store as _};

fn settings(channel_id: &str) -> Map<String, serde_json::Value> {
    json!({"channel_id": channel_id}).as_object().unwrap().clone()
}

fn about(provider: &str) -> Spec {
    let providers = BTreeMap::from([(provider.to_owned(), settings("4711"))]);
    let category = Some(SpecCategory { name: "order".into(), class: None, providers });
    Spec { category, ttl_seconds: 60, ..Spec::default() }
}

#[tokio::test]
async fn a_provider_gets_its_own_part_of_the_category_as_it_was_when_the_message_was_accepted() {
    let rig = Rig::new().await;
    let target = rig.devices(&["a"]).await[0];
    // Whatever the store says of the category by now.
    let edited = CategoryRecord { app: APP, name: "order".into(), ..CategoryRecord::default() };
    rig.store.put_category(edited).await.unwrap();
    let message = rig.send_so(&["a"], about("played")).await;
    rig.accepted(message, target).await;
    let message = rig.send_so(&["a"], about("other")).await;
    rig.accepted(message, target).await;
    let beside = rig.played.beside.lock().unwrap();
    let parts: Vec<_> = beside.iter().map(|(category, _)| category.as_deref().cloned()).collect();
    let told = parts[0].as_ref().expect("its part");
    assert_eq!((told.name.as_str(), &told.settings), ("order", &settings("4711")));
    assert_eq!(parts[1], None, "what is said to others is none of its business");
}

#[tokio::test]
async fn a_vendor_is_told_where_to_report_to_only_where_the_gateway_can_be_reached() {
    let rig = Rig::new().await;
    let target = rig.devices(&["a"]).await[0];
    let message = rig.send(&["a"], 60).await;
    rig.accepted(message, target).await;
    rig.callback_urls.begin_with("https://push.example".into());
    let message = rig.send(&["a"], 60).await;
    rig.accepted(message, target).await;
    let beside = rig.played.beside.lock().unwrap();
    assert_eq!(beside[0].1, None);
    let told = beside[1].1.as_deref().unwrap();
    let start = format!("https://push.example/v1/callbacks/{}/", rig.channel.record.public_id);
    assert!(told.starts_with(&start) && told.len() > start.len() + 20, "{told}");
}
