//! Answers that make no sense, no answer at all.

use super::*;
use crate::contract::{Failure, Reason, Verdict};

fn doubtful_nonsense() -> Verdict {
    Verdict::Failed(Failure::channel(Reason::ProtocolError).doubtful())
}

#[tokio::test]
async fn a_success_that_cannot_be_read_is_doubtful_and_never_accepted() {
    let deep = "[".repeat(100_000);
    let bomb: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1];
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"<html>OK</html>".to_vec(),
        b"{\"code\":\"80000000\",\"requestId\":\"1\"".to_vec(),
        b"\xff\xfe".to_vec(),
        br#"{"code":"80000000"}"#.to_vec(),
        br#"{"code":"80000000","requestId":""}"#.to_vec(),
        br#"{"code":"80000000","requestId":7}"#.to_vec(),
        br#"{"code":80000000,"requestId":"1"}"#.to_vec(),
        br#"{"code":["80000000"],"requestId":"1"}"#.to_vec(),
        br#"{"msg":"Success","requestId":"1"}"#.to_vec(),
        deep.into_bytes(),
        bomb.to_vec(),
        vec![b' '; 2 * 1024 * 1024],
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let vendor = vendor(move |_| Reply::ok(body.clone())).await;
        for outcome in send_to(&*channel(&vendor), &[TOKEN, OTHER]).await {
            assert_eq!(outcome.verdict, doubtful_nonsense(), "{shown:?}");
        }
    }
}

#[tokio::test]
async fn an_acceptance_under_another_status_is_none_and_a_redirect_is_not_followed() {
    let body = json!({"code": "80000000", "msg": "Success", "requestId": "1"}).to_string();
    for status in [201, 202, 307] {
        let body = body.clone();
        let vendor = vendor(move |_| Reply::status(status).body(body.clone()).header("location", "/x")).await;
        assert_eq!(send_one(&*channel(&vendor)).await.verdict, doubtful_nonsense(), "{status}");
        assert_eq!(vendor.requests_to("/x").len(), 0);
    }
}

#[tokio::test]
async fn a_compressed_bomb_is_not_unpacked_to_its_end() {
    let packed = include_bytes!("../../kit/testdata/spaces_2mib.gz").to_vec();
    let vendor = vendor(move |_| Reply::ok(packed.clone()).header("content-encoding", "gzip")).await;
    assert_eq!(send_one(&*channel(&vendor)).await.verdict, doubtful_nonsense());
}

#[tokio::test]
async fn silence_is_doubtful_and_a_closed_port_is_not() {
    let silent = vendor(|_| accepted().after(Duration::from_secs(5))).await;
    let outcome = send_one(&*channel(&silent)).await;
    assert_eq!(outcome.verdict, Verdict::Failed(Failure::channel(Reason::VendorUnavailable).doubtful()));
    assert!(outcome.latency >= Duration::from_secs(1));

    let tokens = vendor(|_| accepted()).await;
    let gone = FakeVendor::start(|_| accepted()).await.shut().await;
    let mut config = config(&gone);
    config["token_url"] = json!(tokens.url("/oauth2/v3/token"));
    let outcome = send_one(&*build(&config)).await;
    assert_eq!(outcome.verdict, Verdict::Failed(Failure::channel(Reason::VendorUnavailable)));
}
