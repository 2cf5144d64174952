//! The apps' own rules for routes.

use serde_json::json;

use super::samples::{NOW, app, device};
use crate::routing::{Match, Rule, StepSpec, Traits};
use crate::store::{DevicePut, RulesRecord, Store};

pub(in crate::store) async fn an_apps_rules_are_replaced_whole_and_are_its_own(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let news = app(store, "news").await.seq;
    assert_eq!(store.rules().await.unwrap(), []);
    let rule = |name: &str| Rule {
        name: name.into(),
        fits: Match { countries: vec!["CN".into()], ..Match::default() },
        steps: vec![StepSpec { uses: "maker".into(), ..StepSpec::default() }],
    };
    let of = |app, names: &[&str], updated_at| RulesRecord {
        app,
        rules: names.iter().map(|name| rule(name)).collect(),
        updated_at,
    };
    store.put_rules(of(shop, &["b", "a"], NOW)).await.unwrap();
    store.put_rules(of(news, &["c"], NOW)).await.unwrap();
    store.put_rules(of(shop, &["d"], NOW + 1)).await.unwrap();
    assert_eq!(store.rules().await.unwrap(), [of(shop, &["d"], NOW + 1), of(news, &["c"], NOW)]);
}

pub(in crate::store) async fn what_rules_ask_of_devices_is_found_by_number(store: &dyn Store) {
    let shop = app(store, "shop").await.seq;
    let said = DevicePut {
        platform: Some("android".into()),
        profile: [("manufacturer".to_owned(), json!("Xiaomi")), ("country".to_owned(), json!("CN"))].into(),
        ..device("said", vec![])
    };
    let made = store.put_devices(shop, vec![said, device("silent", vec![])], NOW).await.unwrap();
    let seqs: Vec<u64> = made.iter().map(|device| device.seq).collect();
    let traits = Traits {
        platform: Some("android".into()),
        manufacturer: Some("Xiaomi".into()),
        country: Some("CN".into()),
    };
    let found = store.device_traits(&[seqs[1], seqs[0], 99_999]).await.unwrap();
    assert_eq!(found, [(seqs[0], traits), (seqs[1], Traits::default())]);
}
