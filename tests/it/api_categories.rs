//! Categories: made, listed, named by messages, deleted.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::trouble::{phone, to_phone};
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_accepted_keeps_the_category_that_is_deleted_behind_it() {
    let world = World::start().await;
    phone(&world, "ok-phone").await;
    let all = format!("/v1/apps/{}/categories", world.app_id);
    let one = format!("{all}/order");
    let unknown = json!({"to": {"device_ids": ["phone"]}, "data": {"a": "b"}, "category": "order"});
    let refused = world.api(Method::POST, "/v1/messages", Some(unknown)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.body["pointer"], "/category", "{:#}", refused.body);
    let made = world.api(Method::PUT, &one, Some(json!({"class": "transactional", "providers": {}}))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{:#}", made.body);
    let listed = world.api(Method::GET, &all, None).await.body;
    assert_eq!(listed["data"], json!([world.api(Method::GET, &one, None).await.body]));
    let mut message = to_phone();
    message["category"] = json!("order");
    let id = world.send(message).await;
    assert_eq!(world.api(Method::DELETE, &one, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.api(Method::GET, &one, None).await.status, StatusCode::NOT_FOUND);
    let done = world.done(&id).await;
    assert_eq!(
        (&done["category"], &done["counts"]["now"]["accepted"]),
        (&json!("order"), &json!(1)),
        "{done:#}"
    );
}
