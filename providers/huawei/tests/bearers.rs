//! Access tokens and self-signed ones: bought once, renewed once, never hammered for.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::signature::KeyPair;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::*;
use crate::contract::{Failure, Hint, Reason, Verdict};

fn failed(outcome: &Outcome) -> &Failure {
    match &outcome.verdict {
        Verdict::Failed(failure) => failure,
        Verdict::Accepted => panic!("accepted"),
    }
}

fn refused() -> Reply {
    let body = json!({"code": "80200003", "msg": format!("expired {ACCESS_TOKEN}"), "requestId": "1"});
    Reply::status(401).body(body.to_string())
}

#[tokio::test]
async fn many_requests_share_one_access_token() {
    let vendor = vendor(|_| accepted()).await;
    let tokens: Vec<String> = (0..3000).map(|n| format!("device-token-{n}")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let (sink, mut source) = crate::contract::Outcomes::channel();
    channel(&vendor).send(batch(hello(), &tokens), context(), sink).await;
    let mut count = 0;
    while let Some(outcome) = source.recv().await {
        assert_eq!(outcome.verdict, Verdict::Accepted);
        count += 1;
    }
    assert_eq!(count, 3000);
    assert_eq!((vendor.requests_to("/token").len(), vendor.requests_to(":send").len()), (1, 3));
    let asked = vendor.requests_to("/token").remove(0);
    assert_eq!(asked.header("content-type"), "application/x-www-form-urlencoded");
    // The secret's signs are escaped.
    let body = String::from_utf8(asked.body.to_vec()).unwrap();
    assert_eq!(body, "grant_type=client_credentials&client_secret=canary%2Fapp%2Bsecret&client_id=100000001");
    let sent = vendor.requests_to(":send").remove(0);
    assert_eq!(sent.header("authorization"), format!("Bearer {ACCESS_TOKEN}"));
}

#[tokio::test]
async fn a_refused_access_token_is_replaced_once_and_nobody_notices() {
    for code in ["80200001", "80200003"] {
        let minted = Arc::new(AtomicU32::new(0));
        let count = minted.clone();
        let vendor = FakeVendor::start(move |seen| match seen.path.as_str() {
            "/oauth2/v3/token" => {
                let number = count.fetch_add(1, Ordering::SeqCst);
                Reply::ok(json!({"access_token": format!("bought-{number}"), "expires_in": 3600}).to_string())
            }
            _ if seen.header("authorization") == "Bearer bought-0" => {
                Reply::status(401).body(json!({"code": code, "msg": "no"}).to_string())
            }
            _ => accepted(),
        })
        .await;
        assert_eq!(send_one(&*channel(&vendor)).await.verdict, Verdict::Accepted);
        assert_eq!(minted.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn credentials_that_stay_refused_stop_the_channel_after_one_new_token() {
    let vendor = vendor(|_| refused()).await;
    let outcome = send_one(&*channel(&vendor)).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::AuthFailed));
    assert_eq!((vendor.requests_to("/token").len(), vendor.requests_to(":send").len()), (2, 2));
    assert_eq!(outcome.vendor.words.as_deref(), Some("expired [removed]"));
}

#[tokio::test]
async fn a_check_tells_what_is_so_and_not_what_was_refused_a_moment_ago() {
    let refusal = Reply::status(400).body(json!({"error": 1101}).to_string());
    let vendor = FakeVendor::refusing_once("/oauth2/v3/token", refusal, |seen| match seen.path.as_str() {
        "/oauth2/v3/token" => token_reply(),
        _ => accepted(),
    })
    .await;
    let channel = channel(&vendor);
    assert_eq!(failed(&send_one(&*channel).await).reason, Reason::AuthFailed);
    let found = channel.check(context()).await;
    assert!(found.ok, "{found:?}");
}

/// What a target gets when the token endpoint answers so; nothing is sent.
async fn without_access_token(reply: Reply) -> Outcome {
    let vendor = FakeVendor::start(move |_| reply.clone()).await;
    let outcome = send_one(&*channel(&vendor)).await;
    assert!(vendor.requests_to(":send").is_empty());
    outcome
}

#[tokio::test]
async fn a_refused_secret_is_told_in_the_vendors_words_and_never_shown() {
    let said = format!("invalid client {SECRET}");
    let body = json!({"error": 1101, "sub_error": 20042, "error_description": said}).to_string();
    let outcome = without_access_token(Reply::status(400).body(body)).await;
    assert_eq!(*failed(&outcome), Failure::channel(Reason::AuthFailed));
    assert_eq!(outcome.vendor.code.as_deref(), Some("1101/20042"));
    assert_eq!(outcome.vendor.words.as_deref(), Some("invalid client [removed]"));
    for status in [401, 403, 404, 405] {
        let outcome = without_access_token(Reply::status(status).body("<html>")).await;
        assert_eq!(failed(&outcome).reason, Reason::AuthFailed, "{status}");
    }
}

#[tokio::test]
async fn a_token_endpoint_in_trouble_is_the_vendors_trouble_and_nothing_was_sent() {
    let outcome = without_access_token(Reply::status(503).header("retry-after", "3")).await;
    let wait = Hint::RetryAfter(Duration::from_secs(3));
    assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable).hint(wait));
    for status in [500, 502, 504, 590] {
        let outcome = without_access_token(Reply::status(status)).await;
        assert_eq!(*failed(&outcome), Failure::channel(Reason::VendorUnavailable), "{status}");
    }
    for garbage in ["", "<html>", "{}", r#"{"access_token":"","expires_in":1}"#, r#"{"access_token":"a"}"#] {
        let outcome = without_access_token(Reply::ok(garbage)).await;
        assert_eq!(*failed(&outcome), Failure::channel(Reason::ProtocolError), "{garbage}");
    }
    let silent = without_access_token(Reply::ok("").after(Duration::from_secs(5))).await;
    assert_eq!(*failed(&silent), Failure::channel(Reason::VendorUnavailable));
}

/// A JWT under PS256, its claims at 1700000000.
fn verified(token: &str, key: &DecodingKey) -> Value {
    let mut rules = Validation::new(Algorithm::PS256);
    rules.set_audience(&["https://oauth-login.cloud.huawei.com/oauth2/v3/token"]);
    // The vectors were signed in 2023.
    rules.validate_exp = false;
    let decoded = jsonwebtoken::decode::<Value>(token, key, &rules).unwrap();
    assert_eq!(decoded.header.kid.as_deref(), Some("kid-test-0001"));
    assert_eq!(decoded.header.typ.as_deref(), Some("JWT"));
    decoded.claims
}

/// Signed elsewhere (PyJWT): proves that the check above checks what the vendor does.
const THEIRS: &str = "eyJhbGciOiJQUzI1NiIsImtpZCI6ImtpZC10ZXN0LTAwMDEiLCJ0eXAiOiJKV1QifQ.eyJhdWQiOiJodHRwczovL29hdXRoLWxvZ2luLmNsb3VkLmh1YXdlaS5jb20vb2F1dGgyL3YzL3Rva2VuIiwiaXNzIjoiMTAwMDAwMDAxIiwiaWF0IjoxNzAwMDAwMDAwLCJleHAiOjE3MDAwMDM2MDB9.IrjnritoFgiUDN4juf9rADV8ihe18PB1Ddx6exBkPNFq3rKNeuiH4I1Uq-m6NzJ_A4OzB7NOnSNPKbEnCSDrhp7sOGQExp7UqqH2v4V-WgOWxxO-3GnalDQ18dgtGBw4VbjMCHgmJ5r7qIaYUznV4kaRlT2YfZ2iH2doDL_wW1te0l7lfJnmiNSbO7lYawJxuYPa2-rrcJ63TdfyDy2RxGjZupxqJLcfSlmhFxW3xT32JIJCpbFTCmUwUyTQu87Jwmj4t1OdrhlgvIF7l3i-fa5Fo3rO1_s_oJ8nS33sW0FdUa64JCRPxVYe8VLPsVyNJyIO8SrD8HKOwwATG9_U_A";
const THEIR_MODULUS: &str = "sSrFvvTOU0u9VpmbHyshJhxXTO_Edv5T7X930t2ZZpL8WR9utPiuDznxYUWlMXWrH4pPDAPBjIGvjSRGqT7qgUuaBIIe_2qXYXa3F_JlEC_c0WOY6HfJJ5iGMbNzIUO089xufQbYL_u-YJTHBUKPRjnaccHI18codpLRql9n7v6XCpPrHMliGPbF1izY8tBwy6-sMMu0n72q6bKGEAHIgUARVA6ozFtcmIsdQ3amFhwAGXi2AlxH-H2w4qrc36WQXilNimLlFHzP5XbISpO4DZbkfi8cMsUbaI9JFA49yucQg6DLXXZ6QcLbQ1pz_vcYg_jjwMNHemJuzmNZTHXNXw";

#[tokio::test]
async fn a_service_account_signs_its_own_bearer_as_others_do() {
    let theirs = verified(THEIRS, &DecodingKey::from_rsa_components(THEIR_MODULUS, "AQAB").unwrap());

    let vendor = vendor(|_| accepted()).await;
    let channel = build(&json!({"service_account": account(), "base_url": vendor.url("")}));
    assert_eq!(send_one(&*channel).await.verdict, Verdict::Accepted);
    assert_eq!(send_one(&*channel).await.verdict, Verdict::Accepted);
    assert!(vendor.requests_to("/token").is_empty(), "nothing is exchanged");
    let sent = vendor.requests_to(":send");
    assert_eq!(sent[0].path, "/v2/736430079244623000/messages:send");
    let bearers: Vec<&str> = sent.iter().map(|seen| seen.header("authorization")).collect();
    assert_eq!(bearers[0], bearers[1], "one signature serves for an hour");
    let key = aws_lc_rs::rsa::KeyPair::from_pkcs8(&pem_bytes(RSA_PEM)).unwrap();
    let key = DecodingKey::from_rsa_der(key.public_key().as_ref());
    let ours = verified(bearers[0].strip_prefix("Bearer ").unwrap(), &key);
    assert_eq!(ours, theirs);
}

fn pem_bytes(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[tokio::test]
async fn a_self_signed_bearer_that_has_expired_for_the_vendor_is_signed_anew() {
    let seen = Arc::new(AtomicU32::new(0));
    let count = seen.clone();
    let vendor = vendor(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(401).body(r#"{"code":"80200005","msg":"expired"}"#),
        _ => accepted(),
    })
    .await;
    let channel = build(&json!({"service_account": account(), "base_url": vendor.url("")}));
    assert_eq!(send_one(&*channel).await.verdict, Verdict::Accepted);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}
