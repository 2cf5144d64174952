//! Addresses that users give: the real binary refuses those of private networks when they are saved, and again when they
//! are called.

use reqwest::Method;
use serde_json::{Value, json};

use crate::trouble::{phone, to_phone};
use crate::world::World;

/// A38, A43: an admin may name another address, and not every one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_leads_into_a_private_network_is_refused_when_it_is_saved() {
    let world = World::start().await;
    let account = world.sandbox(Method::GET, "/fcm/demo-project/service_account", None).await;
    let path = format!("/v1/apps/{}/channels/bent", world.app_id);
    let put = |config: Value| {
        let (world, path) = (&world, path.as_str());
        let body = json!({"provider": "fcm", "config": config});
        async move { world.call(&world.admin_key, Method::PUT, path, Some(body)).await }
    };
    let bad = [
        "https://localhost/",
        "https://10.0.0.1",
        "https://[::1]",
        "https://[::ffff:127.0.0.2]",
        "https://2130706434",
        "https://0177.2",
        "https://169.254.169.254",
        "https://metadata.google.internal",
        "https://100.64.0.1",
        "https://[fc00::1]",
        "https://[64:ff9b::7f00:2]",
        "https://[2002:7f00:2::]",
        "http://good.example",
        "https://good.example:22",
        "https://good.example:6379",
        "https://user@good.example",
        "file:///etc/passwd",
        "gopher://good.example",
        "unix:/run/x",
    ];
    for base in bad {
        let refused = put(json!({"service_account": account, "base_url": base})).await;
        let told = (refused.status.as_u16(), refused.body["pointer"].as_str().unwrap_or_default());
        assert_eq!(told, (422, "/config/base_url"), "{base}: {}", refused.body);
    }
    // An address deep in a key file, as an object and as its text.
    let mut bent = account.clone();
    bent["token_uri"] = json!("https://169.254.169.254/token");
    for key in [bent.clone(), json!(bent.to_string())] {
        let refused = put(json!({"service_account": key, "base_url": world.sandbox_url})).await;
        let pointer = refused.body["pointer"].as_str().unwrap_or_default();
        assert_eq!(
            (refused.status.as_u16(), pointer),
            (422, "/config/service_account/token_uri"),
            "{}",
            refused.body
        );
    }
    assert_eq!(world.api(Method::GET, &path, None).await.status.as_u16(), 404, "nothing was saved");
    // What the configuration allows is called, and an app's own key may name no address at all.
    let good = json!({"service_account": account, "base_url": world.sandbox_url});
    let body = json!({"provider": "fcm", "config": good});
    let own = world.api(Method::PUT, &path, Some(body)).await;
    assert_eq!((own.status.as_u16(), own.body["code"].as_str()), (403, Some("forbidden")), "{}", own.body);
    assert!(put(good).await.status.is_success());
}

/// A38, A42, at connect: a channel from before the guard sends nothing there, says why, and how to mend it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_is_no_longer_allowed_calls_nobody() {
    let mut world = World::start().await;
    phone(&world, "ok-phone").await;
    assert!(world.stop_gateway().success());
    let before = world.sandbox(Method::GET, "/requests", None).await;
    world.env = vec![("ANYPUSH_EGRESS_ALLOW", String::new())];
    world.start_gateway().await;
    let channel = world.api(Method::GET, &format!("/v1/apps/{}/channels/fcm", world.app_id), None).await.body;
    assert_eq!(channel["state"], "auth_failed", "{channel}");
    assert!(channel["state_info"].as_str().unwrap().contains("egress.allow"), "{channel}");
    let id = world.send(to_phone()).await;
    world.until(&id, |message| message["counts"]["targeted"] == 1).await;
    let check = format!("/v1/apps/{}/channels/fcm/check", world.app_id);
    let report = world.api(Method::POST, &check, None).await;
    assert_eq!(report.body["ok"], false, "{}", report.body);
    assert_eq!(world.sandbox(Method::GET, "/requests", None).await, before, "nobody was called");
    // Allowed again, it is sent.
    assert!(world.stop_gateway().success());
    world.env.clear();
    world.start_gateway().await;
    world.done(&id).await;
}
