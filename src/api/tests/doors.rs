//! Who may call what.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::{NOW, World};
use crate::api::auth::{Access, NewKey, SCOPES};
use crate::api::routes;

/// A path with its names filled in.
fn filled(path: &str, app: &str) -> String {
    path.replace("{app}", app).replace("{id}", "x").replace("{name}", "direct").replace("{delivery_id}", "y")
}

#[tokio::test]
async fn every_route_asks_for_a_key_and_for_its_scope() {
    let world = World::new().await;
    let app = world.gateway.auth.app(&world.app).await.unwrap().unwrap().seq;
    for route in routes() {
        let (method, path) = (route.method.as_str(), filled(route.path, &world.app));
        if route.access == Access::Public {
            // A callback's secret is in its path.
            let open = if path.contains("{secret}") { 404 } else { 200 };
            assert_eq!(world.call(method, &path, "", None).await.status, open, "{route:?}");
            continue;
        }
        assert_eq!(
            world.call(method, &path, "", None).await.told(),
            (401, "unauthorized".into()),
            "{route:?}"
        );
        // Every scope but the one that it takes.
        let scopes = SCOPES.iter().filter(|s| route.access != Access::Scope(s)).map(|s| (*s).to_owned());
        let new = NewKey { app: Some(app), scopes: scopes.collect(), ..NewKey::default() };
        let (_, key) = world.gateway.auth.create_key(new).await.unwrap();
        let answer = world.call(method, &path, &key, None).await;
        if route.access == Access::Member {
            assert_eq!(answer.status, 200, "{route:?}");
        } else {
            assert_eq!(answer.told(), (403, "forbidden".into()), "{route:?}");
        }
    }
}

#[tokio::test]
async fn a_key_must_be_whole_known_in_time_and_in_its_place() {
    let world = World::new().await;
    let mut wrong_sum = world.key.clone();
    let last = if wrong_sum.pop() == Some('a') { 'b' } else { 'a' };
    wrong_sum.push(last);
    let unknown = crate::api::key::make("live").1;
    let device = crate::direct::secret::make(None).secret;
    for key in [wrong_sum.as_str(), &unknown, &device, "x", "apk_live_"] {
        assert_eq!(world.call("GET", "/v1/providers", key, None).await.told().0, 401, "{key}");
    }
    let with = |header: &[(&str, String)], path: &str| {
        let mut request = Request::builder().uri(path);
        for (name, value) in header {
            request = request.header(*name, value);
        }
        world.send(request.body(Body::empty()).unwrap())
    };
    let bearer = ("authorization", format!("Bearer {}", world.key));
    assert_eq!(with(std::slice::from_ref(&bearer), "/v1/providers").await.status, 200);
    for value in [format!("bearer {}", world.key), format!("Basic {}", world.key), world.key.clone()] {
        assert_eq!(with(&[("authorization", value)], "/v1/providers").await.told().0, 401);
    }
    let twice = with(&[bearer.clone(), bearer.clone()], "/v1/providers").await;
    assert_eq!(twice.told(), (400, "duplicate_header".into()));
    let in_url = with(&[bearer], &format!("/v1/providers?api_key={}", world.key)).await;
    assert_eq!(in_url.told().0, 401);
    assert!(!in_url.text.contains(&world.key));
}

#[tokio::test]
async fn a_revoked_or_expired_key_ends_at_once() {
    let world = World::new().await;
    let keys = format!("/v1/apps/{}/keys", world.app);
    let made = json!({"name": "short", "scopes": ["messages:read"], "expires_in_seconds": 60});
    let made = world.call("POST", &keys, &world.admin, Some(made)).await.json();
    let key = made["key"].as_str().unwrap();
    assert_eq!(world.call("GET", "/v1/messages", key, None).await.status, 200);
    world.gateway.clock.advance(std::time::Duration::from_secs(61));
    assert!(world.gateway.clock.now_ms() > NOW);
    assert_eq!(world.call("GET", "/v1/messages", key, None).await.told().0, 401);

    let id = world.call("GET", &keys, &world.admin, None).await.json()["data"][0]["id"].clone();
    let listed = world.call("GET", &keys, &world.admin, None).await;
    assert!(!listed.text.contains("\"key\"") && !listed.text.contains("apk_"));
    let path = format!("{keys}/{}", made["id"].as_str().unwrap());
    assert_eq!(world.call("DELETE", &path, &world.admin, None).await.status, 204, "{id}");
    let own =
        listed.json()["data"].as_array().unwrap().iter().find(|k| k["name"] == "all").unwrap()["id"].clone();
    assert_eq!(world.own("GET", "/v1/messages", None).await.status, 200);
    let path = format!("{keys}/{}", own.as_str().unwrap());
    assert_eq!(world.call("DELETE", &path, &world.admin, None).await.status, 204);
    assert_eq!(world.own("GET", "/v1/messages", None).await.told().0, 401);
}

#[tokio::test]
async fn an_admin_key_names_its_app_and_others_must_not() {
    let world = World::new().await;
    let ask = |key: &str, app: &str| {
        let request = Request::builder()
            .uri("/v1/messages")
            .header("authorization", format!("Bearer {key}"))
            .header("anypush-app", app);
        world.send(request.body(Body::empty()).unwrap())
    };
    for app in [world.app.as_str(), "shop"] {
        assert_eq!(ask(&world.admin, app).await.status, 200);
    }
    assert_eq!(ask(&world.admin, "nobody").await.told().0, 404);
    assert_eq!(ask(&world.key, &world.app).await.told(), (403, "forbidden".into()));
    let bare = world.call("GET", "/v1/messages", &world.admin, None).await;
    assert_eq!(bare.told(), (400, "app_required".into()));
}

#[tokio::test]
async fn another_apps_things_look_absent() {
    let world = World::new().await;
    world.own("PUT", "/v1/devices/d-1", Some(json!({"user_id": "u"}))).await;
    let body = json!({"to": {"device_ids": ["d-1"]}, "data": {"k": "v"}});
    let sent = world.own("POST", "/v1/messages", Some(body)).await;
    assert_eq!(sent.status, 202, "{}", sent.text);
    let id = sent.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(world.own("GET", &format!("/v1/messages/{id}"), None).await.status, 200);

    let foreign = [
        ("GET", format!("/v1/messages/{id}")),
        ("GET", format!("/v1/messages/{id}/deliveries")),
        ("GET", "/v1/devices/d-1".into()),
        ("DELETE", "/v1/devices/d-1".into()),
        ("POST", "/v1/devices/d-1/secret".into()),
        ("GET", "/v1/devices/d-1/deliveries".into()),
        ("GET", format!("/v1/apps/{}", world.app)),
        ("GET", format!("/v1/apps/{}/channels", world.app)),
    ];
    for (method, path) in foreign {
        let theirs = world.call(method, &path, &world.other_key, None).await;
        assert_eq!(theirs.told(), (404, "not_found".into()), "{path}");
        // The same words as for what does not exist at all.
        let absent = path.replace("d-1", "d-9").replace(&id, "msg_x").replace(&world.app, "app_x");
        let nobody = world.call(method, &absent, &world.other_key, None).await;
        assert_eq!(nobody.text, theirs.text, "{path}");
    }
    let listed = world.call("GET", "/v1/devices", &world.other_key, None).await;
    assert_eq!(listed.json()["data"], json!([]));
    assert_ne!(world.app, world.other_app);
}
