//! Apps, channels, providers, health, and what is at no path.

use serde_json::{Value, json};

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

/// A configuration out of a schema's examples, with a private key that is one.
fn example(schema: &Value) -> Value {
    let pem = include_str!("../../../providers/kit/testdata/rfc7515_a2.pem");
    let mut config = json!({});
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        config[name] = schema["properties"][name]["examples"][0].clone();
        for (_, value) in config[name].as_object_mut().into_iter().flatten() {
            if value.as_str().is_some_and(|text| text.starts_with("-----BEGIN PRIVATE KEY")) {
                *value = pem.into();
            }
        }
    }
    config
}

#[tokio::test]
async fn secrets_of_a_channel_never_come_back() {
    // One that cannot be without a secret, so that the example has it.
    let (registration, names) = anypush_providers::catalogue()
        .iter()
        .map(|registration| (registration, crate::channels::secret_names(registration)))
        .find(|(registration, names)| {
            let schema = (registration.config_schema)();
            let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            names.iter().any(|name| required.contains(&json!(name)))
        })
        .unwrap();
    let world = World::new().await;
    let id = registration.descriptor.id;
    let path = format!("/v1/apps/{}/channels/{id}", world.app);
    let config = example((registration.config_schema)().as_value());
    let body = json!({"provider": id, "config": config, "limits": {"per_second": 10}});
    let put = world.own("PUT", &path, Some(body)).await;
    assert_eq!(put.status, 201, "{}", put.text);
    let got = world.own("GET", &path, None).await;
    // Secrets that are left out stay.
    let again = world.own("PUT", &path, Some(json!({"provider": id, "config": {}}))).await;
    assert_eq!(again.status, 200, "{}", again.text);
    let listed = world.own("GET", &format!("/v1/apps/{}/channels", world.app), None).await;
    for answer in [&put, &got, &again, &listed] {
        assert!(!answer.text.contains("PRIVATE KEY"));
    }
    for answer in [&put, &got, &again] {
        for name in &names {
            assert!(answer.json()["config"].get(name).is_none());
            assert_eq!(answer.json()["secrets"][name]["set"], true);
            assert_eq!(
                answer.json()["secrets"][name]["fingerprint"],
                put.json()["secrets"][name]["fingerprint"]
            );
        }
    }
    assert_eq!(again.json()["version"], 2);
    assert_eq!(world.own("DELETE", &path, None).await.status, 204);
    assert_eq!(world.own("GET", &path, None).await.told().0, 404);
}

#[tokio::test]
async fn a_gateway_serves_on_a_free_port_and_stops_cleanly() {
    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let serving = crate::app::serve(world.gateway.clone(), listener, shutdown);
    let asking = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut peer = tokio::net::TcpStream::connect(address).await.unwrap();
        peer.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0; 15];
        peer.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        assert_eq!(world.gateway.url(), format!("http://{address}"));
        stop.send(()).unwrap();
        // The idle connection is closed, not waited for.
        peer.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let (served, ()) = tokio::join!(serving, asking);
    served.unwrap();
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
