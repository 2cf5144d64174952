//! The token endpoint and what becomes of its tokens.

use serde_json::{Value, json};

use crate::world::{PROJECT, World, claims, fcm_error, now_seconds, sign, to};

/// The claims with one of them changed.
fn with(claims: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims.clone();
    claims[name] = value.into();
    claims
}

#[tokio::test]
async fn a_good_assertion_gets_a_token_that_sends() {
    let world = World::start().await;
    let account = world.service_account(PROJECT).await;
    assert_eq!(account["token_uri"], format!("{}/token", world.url));
    let (status, answer) = world.post_assertion(&sign(&account, &claims(&account))).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["expires_in"], &answer["token_type"]), (&json!(3599), &json!("Bearer")));
    let (status, answer) = world.post(answer["access_token"].as_str().unwrap(), &to("a", "m")).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["name"].as_str().unwrap().starts_with("projects/demo-proj/messages/0:"), "{answer}");
}

#[tokio::test]
async fn an_assertion_that_is_wrong_anywhere_is_refused() {
    let world = World::start().await;
    let account = world.service_account(PROJECT).await;
    let good = claims(&account);
    let now = now_seconds();
    let mut other_key = world.service_account("other-proj").await;
    let mut other_kid = account.clone();
    other_kid["private_key_id"] = json!("0000");
    other_key["private_key_id"] = account["private_key_id"].clone();
    let cases = [
        ("another key", sign(&other_key, &good), "invalid_grant"),
        ("another kid", sign(&other_kid, &good), "invalid_grant"),
        (
            "another issuer",
            sign(&account, &with(&good, "iss", "x@demo-proj.iam.gserviceaccount.com")),
            "invalid_grant",
        ),
        (
            "another audience",
            sign(&account, &with(&good, "aud", "https://example.com/token")),
            "invalid_grant",
        ),
        (
            "expired",
            sign(&account, &with(&with(&good, "iat", now - 7200), "exp", now - 3600)),
            "invalid_grant",
        ),
        (
            "from the future",
            sign(&account, &with(&with(&good, "iat", now + 900), "exp", now + 1000)),
            "invalid_grant",
        ),
        ("too long a life", sign(&account, &with(&good, "exp", now + 7200)), "invalid_grant"),
        ("no scope", sign(&account, &with(&good, "scope", "")), "invalid_scope"),
        (
            "wrong scope",
            sign(&account, &with(&good, "scope", "https://www.googleapis.com/auth/drive")),
            "invalid_scope",
        ),
        ("no assertion", String::new(), "invalid_grant"),
        ("no signature", sign(&account, &good).rsplit_once('.').unwrap().0.to_owned() + ".", "invalid_grant"),
    ];
    for (case, assertion, error) in cases {
        let (status, answer) = world.post_assertion(&assertion).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some(error)), "{case}: {answer}");
        assert!(answer["error_description"].is_string(), "{case}");
    }
}

#[tokio::test]
async fn the_own_address_is_an_audience_and_a_list_of_scopes_is_read() {
    let world = World::start().await;
    let account = world.service_account(PROJECT).await;
    let scopes = "https://www.googleapis.com/auth/cloud-platform https://www.googleapis.com/auth/datastore";
    let claims = with(&with(&claims(&account), "aud", account["token_uri"].clone()), "scope", scopes);
    assert_eq!(world.post_assertion(&sign(&account, &claims)).await.0, 200);
}

#[tokio::test]
async fn a_token_that_is_missing_made_up_expired_or_withdrawn_does_not_send() {
    let world = World::start().await;
    world.put("/_sandbox/providers/fcm", json!({"access_token_seconds": 0})).await;
    let expired = world.access_token(PROJECT).await;
    world.put("/_sandbox/providers/fcm", json!({})).await;
    let withdrawn = world.access_token(PROJECT).await;
    let url = format!("{}/_sandbox/fcm/{PROJECT}/withdraw_tokens", world.url);
    assert_eq!(world.http.post(url).send().await.unwrap().status(), 204);
    for token in ["", "ya29.made.up", expired.as_str(), withdrawn.as_str()] {
        let (status, answer) = world.post(token, &to("a", "m")).await;
        assert_eq!((status, answer["error"]["status"].as_str()), (401, Some("UNAUTHENTICATED")));
        assert_eq!(fcm_error(&answer), None, "refreshing the token helps, so no FcmError may say otherwise");
    }
    let fresh = world.access_token(PROJECT).await;
    assert_eq!(world.post(&fresh, &to("a", "m")).await.0, 200);
}

#[tokio::test]
async fn another_project_is_forbidden_and_an_unknown_one_is_not_found() {
    let world = World::start().await;
    let token = world.access_token(PROJECT).await;
    world.service_account("other-proj").await;
    for (project, status) in [("other-proj", 403), ("no-such-proj", 404)] {
        let url = format!("{}/v1/projects/{project}/messages:send", world.url);
        let answer = world.http.post(url).bearer_auth(&token).json(&to("a", "m")).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(fcm_error(&answer.json().await.unwrap()), None, "a wrong project may not blame a token");
    }
}
