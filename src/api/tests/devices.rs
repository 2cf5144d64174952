//! Devices, their lists and secrets.

use serde_json::json;

use super::World;

#[tokio::test]
async fn a_device_is_put_read_changed_and_deleted() {
    let world = World::new().await;
    let body = json!({
        "user_id": "u-1", "platform": "android", "tags": ["vip"], "language": "zh-CN",
        "attributes": {"level": 7}, "addresses": [{"provider": "phone", "token": "+8613800000000"}],
    });
    let put = world.own("PUT", "/v1/devices/d-1", Some(body)).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let device = world.own("GET", "/v1/devices/d-1", None).await.json();
    assert_eq!(device["addresses"][0]["state"], "active");
    assert_eq!(
        (device["attributes"]["level"].clone(), device["language"].clone()),
        (json!(7), json!("zh-CN"))
    );

    let patch = json!({"user_id": null, "language": null, "tags": ["a", "b"]});
    let device = world.own("PATCH", "/v1/devices/d-1", Some(patch)).await.json();
    assert_eq!((device["user_id"].clone(), device["tags"].clone()), (json!(null), json!(["a", "b"])));
    assert!(device["language"].is_null());
    assert_eq!(device["addresses"].as_array().unwrap().len(), 1);

    assert_eq!(world.own("DELETE", "/v1/devices/d-1", None).await.status, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(world.own(method, "/v1/devices/d-1", None).await.told().0, 404);
    }
    let patch = world.own("PATCH", "/v1/devices/d-1", Some(json!({}))).await;
    assert_eq!(patch.told().0, 404);
}

#[tokio::test]
async fn lists_go_on_where_they_stopped_and_cursors_cannot_be_bent() {
    let world = World::new().await;
    for n in 0..5 {
        let tags = if n % 2 == 0 { json!(["even"]) } else { json!([]) };
        world.own("PUT", &format!("/v1/devices/d-{n}"), Some(json!({"tags": tags}))).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v1/devices?tag=even&limit=2".to_owned();
    let mut cursor = String::new();
    loop {
        let page = world.own("GET", &path, None).await.json();
        seen.extend(page["data"].as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
        path = format!("/v1/devices?tag=even&limit=2&cursor={next}");
    }
    assert_eq!(seen, ["d-0", "d-2", "d-4"]);
    for path in [format!("/v1/devices?cursor={cursor}"), format!("/v1/messages?cursor={cursor}")] {
        assert_eq!(world.own("GET", &path, None).await.told(), (400, "invalid_cursor".into()));
    }
    let path = format!("/v1/devices?tag=even&limit=2&cursor={cursor}");
    assert_eq!(world.call("GET", &path, &world.other_key, None).await.told().0, 400);
    for query in ["limit=0", "limit=101", "limit=x", "odd=1", "tag=a&tag=b", "token=x", "tag=%00"] {
        let answer = world.own("GET", &format!("/v1/devices?{query}"), None).await;
        assert_eq!(answer.told(), (422, "invalid_parameter".into()), "{query}");
    }
}

#[tokio::test]
async fn a_secret_is_shown_once_and_a_new_one_replaces_it() {
    let world = World::new().await;
    world.own("PUT", "/v1/devices/d-1", Some(json!({}))).await;
    let first = world.own("POST", "/v1/devices/d-1/secret", None).await.json();
    let second = world.own("POST", "/v1/devices/d-1/secret", None).await.json();
    assert_eq!(first["username"], second["username"]);
    assert_ne!(first["secret"], second["secret"]);
    let shown = world.own("GET", "/v1/devices/d-1", None).await;
    assert_eq!(shown.json()["direct"]["username"], first["username"]);
    assert!(!shown.text.contains("aps_"));
    let ask = |secret: &serde_json::Value| {
        let secret = secret.as_str().unwrap().to_owned();
        async { world.call("GET", "/v1/device/messages", &{ secret }, None).await.status.as_u16() }
    };
    assert_eq!((ask(&first["secret"]).await, ask(&second["secret"]).await), (401, 200));
    assert_eq!(world.own("GET", "/v1/device/messages", None).await.status, 401);
}
