//! What an app says once about its categories reaches the vendors that want to know, and their quotas are kept.

use std::time::{Duration, SystemTime};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::receipts::put_channel_of;
use crate::steps::trail;
use crate::world::{Answer, World};

/// A world with the channels of these vendors, and a phone with an address of each and one of FCM.
async fn with(vendors: &[&str]) -> World {
    let world = World::start().await;
    let mut addresses = vec![json!({"provider": "fcm", "token": "ok-phone"})];
    for sample in world.samples().await {
        let provider = sample["provider"].as_str().unwrap();
        if vendors.contains(&provider) {
            put_channel_of(&world, &sample).await;
            addresses.push(json!({"provider": provider, "token": "ok-phone"}));
        }
    }
    world.put_devices(vec![("phone".into(), json!({"addresses": addresses}))]).await;
    world
}

async fn put_category(world: &World, name: &str, category: Value) -> Answer {
    let path = format!("/v1/apps/{}/categories/{name}", world.app_id);
    world.api(Method::PUT, &path, Some(category)).await
}

fn message(category: &str, class: &str, steps: &[&str]) -> Value {
    let steps: Vec<_> = steps.iter().map(|uses| json!({"use": uses})).collect();
    json!({
        "to": {"device_ids": ["phone"]}, "category": category, "class": class, "data": {"order": "42"},
        "notification": {"title": "On its way", "body": "Your order leaves today"}, "route": {"steps": steps},
    })
}

/// The requests for messages that a vendor sees while a message is sent until its first step has it.
async fn seen(world: &World, message: Value) -> Vec<Value> {
    world.sandbox(Method::PUT, "/recording", Some(json!({"on": true}))).await;
    let id = world.send(message).await;
    let done = world.done(&id).await;
    assert_eq!(done["counts"]["reached"]["accepted"], 1, "{done:#}");
    let recording = world.sandbox(Method::GET, "/recording", None).await;
    let is_send = |entry: &&Value| {
        let path = entry["path"].as_str().unwrap();
        path.contains("/message/regid") || path.contains("messages:send")
    };
    recording["requests"].as_array().unwrap().iter().filter(is_send).cloned().collect()
}

/// The value of a form's field.
fn field(request: &Value, name: &str) -> Option<String> {
    let body = request["body"].as_str().unwrap();
    url::form_urlencoded::parse(body.as_bytes()).find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
}

async fn dry_warnings(world: &World, message: Value) -> String {
    let run = world.api(Method::POST, "/v1/messages?dry_run=true", Some(message)).await.body;
    run["channels"][0]["preview"]["warnings"].to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_category_chooses_xiaomis_channel_and_template_and_what_breaks_its_rules_is_told_before() {
    let world = with(&["xiaomi"]).await;
    let order = json!({"class": "transactional", "providers": {"xiaomi": {
        "channel_id": "118442", "class": "private", "template_id": "P10293",
        "template_param": {"order": "{data.order}"}
    }}});
    assert_eq!(put_category(&world, "order", order).await.status, StatusCode::CREATED);
    let sale =
        json!({"class": "marketing", "providers": {"xiaomi": {"channel_id": "118443", "class": "public"}}});
    assert_eq!(put_category(&world, "sale", sale).await.status, StatusCode::CREATED);
    let requests = seen(&world, message("order", "transactional", &["xiaomi"])).await;
    let said = |name: &str| field(&requests[0], name);
    assert_eq!(said("extra.channel_id").as_deref(), Some("118442"), "{requests:#?}");
    assert_eq!(said("extra.template_id").as_deref(), Some("P10293"));
    assert_eq!(said("extra.template_param").as_deref(), Some(r#"{"order":"42"}"#));
    let requests = seen(&world, message("sale", "marketing", &["xiaomi"])).await;
    assert_eq!(field(&requests[0], "extra.channel_id").as_deref(), Some("118443"), "{requests:#?}");
    assert_eq!(field(&requests[0], "extra.template_id"), None);
    // The other way round is against the vendor's rules, or costs the phone one of its five a day.
    let warned = dry_warnings(&world, message("order", "marketing", &["xiaomi"])).await;
    assert!(warned.contains("breaks Xiaomi's rules"), "{warned}");
    let warned = dry_warnings(&world, message("sale", "transactional", &["xiaomi"])).await;
    assert!(warned.contains("five a day"), "{warned}");
    let wrong = json!({"providers": {"xiaomi": {"channel_id": "1", "template_param": {"x": "{nonsense}"}}}});
    let refused = put_category(&world, "wrong", wrong).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let places: Vec<_> =
        refused.body["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    for place in ["class", "template_id", "template_param/x"] {
        assert!(places.iter().any(|at| at.ends_with(&format!("/providers/xiaomi/{place}"))), "{places:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_category_chooses_huaweis_classification_and_one_that_it_does_not_know_is_refused() {
    let world = with(&["huawei"]).await;
    let order = json!({"class": "transactional", "providers": {"huawei": {"category": "EXPRESS", "channel_id": "orders"}}});
    assert_eq!(put_category(&world, "order", order).await.status, StatusCode::CREATED);
    assert_eq!(put_category(&world, "sale", json!({"class": "marketing"})).await.status, StatusCode::CREATED);
    let android = async |message| {
        let requests = seen(&world, message).await;
        let body: Value = serde_json::from_str(requests[0]["body"].as_str().unwrap()).unwrap();
        body["message"]["android"].clone()
    };
    let sent = android(message("order", "transactional", &["huawei"])).await;
    assert_eq!(
        (&sent["category"], &sent["notification"]["channel_id"]),
        (&json!("EXPRESS"), &json!("orders"))
    );
    assert_eq!(sent["notification"]["importance"], "NORMAL");
    let sent = android(message("sale", "marketing", &["huawei"])).await;
    assert_eq!(
        (&sent["category"], &sent["notification"]["importance"]),
        (&json!("MARKETING"), &json!("LOW"))
    );
    let warned = dry_warnings(&world, message("order", "marketing", &["huawei"])).await;
    assert!(warned.contains("breaks Huawei's rules"), "{warned}");
    let refused =
        put_category(&world, "wrong", json!({"providers": {"huawei": {"category": "GOSSIP"}}})).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.to_string().contains("/providers/huawei/category"), "{:#}", refused.body);
}

/// Days begin at midnight in China: not in the middle of a test. It waits for less time than a test may take.
async fn early_in_chinas_day() {
    #[expect(clippy::disallowed_methods, reason = "the gateway's clock is the machine's")]
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 8 * 3600;
    let left = 86_400 - now % 86_400;
    if left < 60 {
        tokio::time::sleep(Duration::from_secs(left + 1)).await;
    }
}

/// How often the vendor was asked to send, by its ledger.
async fn asked(world: &World) -> usize {
    let requests = world.sandbox(Method::GET, "/requests", None).await;
    let is_send = |entry: &&Value| entry["provider"] == "xiaomi" && entry["operation"] == "send";
    requests["requests"].as_array().unwrap().iter().filter(is_send).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phones_daily_quota_is_asked_before_sending_and_the_next_step_is_taken() {
    let world = with(&["xiaomi"]).await;
    early_in_chinas_day().await;
    put_category(&world, "sale", json!({"class": "marketing", "providers": {"xiaomi": {"class": "public"}}}))
        .await;
    let mut ways = Vec::new();
    for _ in 0..6 {
        let id = world.send(message("sale", "marketing", &["xiaomi", "fcm"])).await;
        let done = world.done(&id).await;
        let has = |name: &str| done["by_channel"][name]["now"]["accepted"] == 1;
        ways.push(if has("xiaomi") { "xiaomi" } else { "fcm" });
        if ways.len() == 6 {
            let told = trail(&world, &id).await;
            let refused = told.iter().find(|entry| entry["reason"] == "quota_exceeded").unwrap();
            assert!(refused.to_string().contains("public_device_day"), "{told:#?}");
        }
    }
    assert_eq!(ways, ["xiaomi", "xiaomi", "xiaomi", "xiaomi", "xiaomi", "fcm"], "five a day");
    assert_eq!(asked(&world).await, 5, "the sixth was not asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_the_vendor_calls_used_up_is_closed_until_midnight_in_china() {
    let mut world = with(&["xiaomi"]).await;
    early_in_chinas_day().await;
    let public = json!({"class": "marketing", "providers": {"xiaomi": {"class": "public"}}});
    put_category(&world, "sale", public).await;
    put_category(&world, "order", json!({"class": "transactional"})).await;
    let app = "/xiaomi/com.example.demo/app";
    world.sandbox(Method::PUT, app, Some(json!({"day_quota": 0}))).await;
    for time in 0..3 {
        let id = world.send(message("sale", "marketing", &["xiaomi", "fcm"])).await;
        let done = world.done(&id).await;
        assert_eq!(done["by_channel"]["fcm"]["now"]["accepted"], 1, "{done:#}");
        let told = trail(&world, &id).await;
        assert!(told.iter().any(|entry| entry["reason"] == "quota_exceeded"), "{told:#?}");
        assert_eq!(asked(&world).await, 1, "only the first was asked for, time {time}");
        if time == 1 {
            world.kill_gateway();
            world.start_gateway().await;
        }
    }
    let path = format!("/v1/apps/{}/channels/xiaomi", world.app_id);
    let shown = world.call(&world.admin_key, Method::GET, &path, None).await.body;
    let day = shown["quotas"].as_array().unwrap().iter().find(|quota| quota["name"] == "public_day").unwrap();
    let until = day["exhausted_until"].as_str().unwrap();
    assert!(until.contains("T16:00:00"), "midnight in Shanghai: {day:#}");
    // The other class goes on.
    let id = world.send(message("order", "transactional", &["xiaomi"])).await;
    assert_eq!(world.done(&id).await["by_channel"]["xiaomi"]["reached"]["accepted"], 1);
    world.sandbox(Method::PUT, app, Some(json!({"day_quota": 100}))).await;
    let resumed = world.call(&world.admin_key, Method::POST, &format!("{path}/resume"), None).await;
    assert!(resumed.status.is_success(), "{:#}", resumed.body);
    let id = world.send(message("sale", "marketing", &["xiaomi", "fcm"])).await;
    assert_eq!(
        world.done(&id).await["by_channel"]["xiaomi"]["reached"]["accepted"],
        1,
        "there is room again"
    );
}
