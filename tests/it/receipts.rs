//! Where vendors report to, from outside.

use reqwest::Method;
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_whose_vendor_has_no_callbacks_takes_none() {
    let world = World::start().await;
    let channel = format!("/v1/apps/{}/channels/fcm", world.app_id);
    let shown = world.api(Method::POST, &format!("{channel}/rotate_callback"), None).await;
    assert_eq!(shown.status, 200);
    assert!(shown.body["callback_url"].is_null());
    let id = shown.body["id"].as_str().unwrap();
    for secret in ["x", "00000000000000000000000000"] {
        for method in [Method::POST, Method::GET] {
            let path = format!("/v1/callbacks/{id}/{secret}");
            let answer = world.call("", method.clone(), &path, Some(json!({"event": "delivered"}))).await;
            assert_eq!((answer.status.as_u16(), &answer.body["code"]), (404, &json!("not_found")));
        }
    }
    assert!(!world.log().contains("0000000000000000"), "the secret of a callback is never logged");
}
