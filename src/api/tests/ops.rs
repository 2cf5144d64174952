//! Apps, channels, providers, health, and what is at no path.

use serde_json::json;

use super::World;

#[tokio::test]
async fn apps_have_unique_names_and_their_own_connection() {
    let world = World::new().await;
    let again = world.call("POST", "/v1/apps", &world.admin, Some(json!({"name": "shop"}))).await;
    assert_eq!(again.told(), (409, "already_exists".into()));
    for name in ["", "Shop", "a/b", "app_x", "-x", "x\n"] {
        let answer = world.call("POST", "/v1/apps", &world.admin, Some(json!({"name": name}))).await;
        assert_eq!(answer.told(), (422, "invalid_field".into()), "{name}");
    }
    assert_eq!(world.own("GET", "/v1/apps/shop", None).await.json()["id"], world.app.as_str());
    let page = world.call("GET", "/v1/apps?limit=1", &world.admin, None).await.json();
    assert!(page["next_cursor"].is_string());

    let channels = format!("/v1/apps/{}/channels", world.app);
    let listed = world.own("GET", &channels, None).await.json();
    assert_eq!(listed["data"][0]["name"], "direct");
    let path = format!("{channels}/direct");
    assert_eq!(world.own("DELETE", &path, None).await.told(), (409, "channel_is_built_in".into()));
    let put = world.own("PUT", &path, Some(json!({"provider": "direct"}))).await;
    assert_eq!(put.told().0, 409);
    assert_eq!(world.own("POST", &format!("{path}/pause"), None).await.json()["state"], "paused");
    assert_eq!(world.own("POST", &format!("{path}/resume"), None).await.json()["state"], "ok");
    assert_eq!(world.own("POST", &format!("{path}/check"), None).await.json()["ok"], true);
}

#[tokio::test]
async fn a_channel_of_no_provider_or_with_foreign_fields_is_refused() {
    let world = World::new().await;
    let path = format!("/v1/apps/{}/channels/x", world.app);
    let unknown = world.own("PUT", &path, Some(json!({"provider": "nobody", "config": {}}))).await;
    assert_eq!((unknown.told().0, unknown.json()["pointer"].clone()), (422, json!("/provider")));
    let odd = json!({"provider": "nobody", "secrets": {}, "state": "ok", "limits": {"per_second": 0}});
    let odd = world.own("PUT", &path, Some(odd)).await.json();
    let pointers: Vec<_> =
        odd["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/limits/per_second", "/secrets", "/state"]);
    for member in ["base_url", "token_url", "ca_pem"] {
        let body = json!({"provider": "nobody", "config": {member: "x"}});
        let answer = world.own("PUT", &path, Some(body)).await;
        assert_eq!(answer.told(), (403, "forbidden".into()));
    }
    assert_eq!(world.own("GET", &path, None).await.told().0, 404);
}

#[tokio::test]
async fn secrets_of_a_channel_never_come_back() {
    let Some(registration) = anypush_providers::catalogue().first() else { return };
    let world = World::new().await;
    let names = crate::channels::secret_names(registration);
    assert!(!names.is_empty(), "a provider without a secret proves nothing here");
    let id = registration.descriptor.id;
    let path = format!("/v1/apps/{}/channels/{id}", world.app);
    let Some(config) = (registration.config_schema)().as_value()["examples"][0].as_object().cloned() else {
        return;
    };
    let put = world.call("PUT", &path, &world.admin, Some(json!({"provider": id, "config": config}))).await;
    let got = world.own("GET", &path, None).await;
    for answer in [&put, &got] {
        assert!(answer.status.is_success(), "{}", answer.text);
        for name in &names {
            assert!(answer.json()["config"].get(name).is_none());
            assert_eq!(answer.json()["secrets"][name]["set"], config.contains_key(name));
        }
    }
}

#[tokio::test]
async fn health_metrics_and_unknown_paths() {
    let world = World::new().await;
    assert_eq!(world.call("GET", "/healthz", "", None).await.json()["status"], "ok");
    assert_eq!(world.call("GET", "/readyz", "", None).await.json()["status"], "ready");
    let metrics = world.call("GET", "/metrics", "", None).await;
    assert!(metrics.text.contains("anypush_phones_connected 0") && metrics.text.ends_with("# EOF\n"));
    assert_eq!(world.call("GET", "/nowhere", "", None).await.told(), (404, "no_such_path".into()));
    let wrong = world.call("PATCH", "/v1/messages", "", None).await;
    assert_eq!(wrong.told(), (405, "method_not_allowed".into()));
    assert!(wrong.headers.contains_key("allow"));
    let providers = world.own("GET", "/v1/providers", None).await.json();
    assert_eq!(providers["data"][0]["id"], "direct");
    assert!(providers["data"][0]["capabilities"]["max_ttl_seconds"].is_u64());
    world.gateway.tasks.stop();
    assert_eq!(world.call("GET", "/readyz", "", None).await.told(), (503, "not_ready".into()));
}
