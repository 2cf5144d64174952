//! Categories of an app, and what they do to messages that name them.

use serde_json::{Value, json};

use super::World;

fn path(world: &World, name: &str) -> String {
    format!("/v1/apps/{}/categories/{name}", world.app)
}

#[tokio::test]
async fn a_message_takes_its_class_from_its_category_and_keeps_both() {
    let world = World::new().await;
    let sale = path(&world, "sale");
    let made = world.own("PUT", &sale, Some(json!({"class": "marketing"}))).await;
    assert_eq!((made.status.as_u16(), &made.json()["class"]), (201, &json!("marketing")), "{}", made.text);
    let everybody = json!({"to": {"audience": {"all": true}}, "data": {"a": "b"}, "category": "sale"});
    let sent = world.own("POST", "/v1/messages", Some(everybody.clone())).await;
    assert_eq!(sent.status, 202, "the category says the class that an audience needs: {}", sent.text);
    let said = json!({"to": {"device_ids": ["a"]}, "data": {"a": "b"}, "category": "sale", "class": "transactional"});
    let said = world.own("POST", "/v1/messages", Some(said)).await.json();
    assert_eq!(world.own("DELETE", &sale, None).await.status, 204);
    assert_eq!(world.own("DELETE", &sale, None).await.status, 404);
    for (sent, class) in [(sent.json(), "marketing"), (said, "transactional")] {
        let message = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
        let message = world.own("GET", &message, None).await.json();
        assert_eq!((&message["class"], &message["category"]), (&json!(class), &json!("sale")));
    }
    let refused = world.own("POST", "/v1/messages", Some(everybody)).await;
    assert_eq!(refused.told(), (422, "invalid_field".into()));
    let refused = refused.json();
    assert!(
        refused["detail"].as_str().unwrap().contains("PUT /v1/apps/{app}/categories/sale"),
        "{refused:#}"
    );
    let places: Vec<_> = refused["errors"].as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
    assert_eq!(places, ["/category", "/class"]);
}

#[tokio::test]
async fn every_mistake_in_a_category_has_its_pointer() {
    let world = World::new().await;
    let known = anypush_providers::catalogue()[0].descriptor.id;
    let body =
        json!({"class": "urgent", "providers": {"no/such": {}, known: {"no_such_member": "x"}}, "odd": 1});
    let refused = world.own("PUT", &path(&world, "order"), Some(body)).await.json();
    let mut places: Vec<_> =
        refused["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    let theirs = format!("/providers/{known}");
    assert!(places.iter().any(|place| place.starts_with(&theirs)), "{refused:#}");
    places.retain(|place| !place.starts_with(&theirs));
    places.sort_unstable();
    assert_eq!(places, ["/class", "/odd", "/providers/no~1such"], "{refused:#}");
    let refused = world.own("PUT", &path(&world, "Order"), Some(json!({}))).await;
    assert_eq!(refused.told(), (422, "invalid_field".into()));
    assert_eq!(world.own("GET", &path(&world, "order"), None).await.status, 404, "nothing is stored");
}

#[tokio::test]
async fn categories_are_listed_by_name_and_belong_to_their_app() {
    let world = World::new().await;
    for name in ["order", "chat", "sale"] {
        assert_eq!(world.own("PUT", &path(&world, name), Some(json!({}))).await.status, 201);
        assert_eq!(world.own("PUT", &path(&world, name), Some(json!({}))).await.status, 200);
    }
    let list = format!("/v1/apps/{}/categories?limit=2", world.app);
    let page = world.own("GET", &list, None).await.json();
    let names = |page: &Value| -> Vec<Value> {
        page["data"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect()
    };
    assert_eq!(names(&page), ["chat", "order"]);
    let next = format!("{list}&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(names(&world.own("GET", &next, None).await.json()), ["sale"]);
    let theirs = format!("/v1/apps/{}/categories/order", world.other_app);
    assert_eq!(world.call("GET", &theirs, &world.other_key, None).await.status, 404);
}
