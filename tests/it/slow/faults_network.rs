//! Between gateway and vendor: silence, drops, resets, certificates that are no good. Nothing hangs, nothing counts as
//! accepted that was not answered, a stop is a stop, and when the wire is good again everything ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::proxy::{Proxy, Wire};
use crate::ledger::{self, Bounds};
use crate::sending::fcm_device;
use crate::world::{PATIENCE, World};

const PHONES: usize = 20;
/// Grace of a stop (10 s) and what a busy machine adds.
const STOP: Duration = Duration::from_secs(25);

async fn phones(world: &World) {
    let devices = (0..PHONES).map(|i| (format!("p{i}"), fcm_device(&format!("ok-{i}"))));
    world.put_devices(devices.collect()).await;
}

fn to_all() -> Value {
    json!({"to": {"audience": {"tag": "all"}}, "class": "transactional", "notification": {"title": "Hello"}})
}

/// Waits until every delivery has been tried and one at least has failed for this reason: answers that were whole when
/// a connection broke count.
async fn failed(world: &World, id: &str, reason: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let deliveries = world.deliveries(id).await;
        let failed = |delivery: &&Value| delivery["state"] == "pending" && delivery["reason"] == reason;
        let failed = deliveries.iter().filter(failed).count();
        let accepted = deliveries.iter().filter(|delivery| delivery["state"] == "accepted").count();
        if failed > 0 && failed + accepted == PHONES {
            return;
        }
        assert!(Instant::now() < until, "{deliveries:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A message while the wire is spoilt: its tries fail, a stop in their middle is clean, and a good wire carries it.
async fn survives(wire: Wire) {
    let mut world = World::start().await;
    let proxy = Proxy::start(&world.sandbox_url, None).await;
    let more = json!({"base_url": format!("http://{}", proxy.address)});
    let put = world.put_fcm_channel_at(&world.app_id, "fcm", "demo-project", more).await;
    assert!(put.status.is_success(), "{}", put.body);
    phones(&world).await;
    let warm = world.send(to_all()).await;
    world.done(&warm).await;
    proxy.set(wire);
    let id = world.send(to_all()).await;
    failed(&world, &id, "vendor_unavailable").await;
    let other = world.send(to_all()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    assert!(world.stop_gateway().success(), "{}", world.log());
    assert!(began.elapsed() < STOP, "stopped after {:?}", began.elapsed());
    world.start_gateway().await;
    proxy.set(Wire::Good);
    for id in [&warm, &id, &other] {
        let message = world.done(id).await;
        assert_eq!(message["counts"]["now"]["accepted"], PHONES, "{message:#}");
    }
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds { lossy: true, ..Bounds::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_takes_requests_and_never_answers_holds_nothing_for_ever() {
    survives(Wire::BlackHole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_answers_a_byte_a_second_holds_nothing_for_ever() {
    survives(Wire::Dribble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_reset_in_the_middle_of_answers_loses_nothing() {
    survives(Wire::Reset).await;
}

/// A server's certificate for a host, valid until a year, and the authority that signed it.
fn certificate(host: &str, until: i32) -> (TlsAcceptor, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}

/// A51.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_to_a_vendor_whose_certificate_is_expired_strange_or_for_another_host() {
    let mut world = World::start().await;
    phones(&world).await;
    let (_, strange) = certificate("127.0.0.1", 2099);
    for (host, until, authority, good) in [
        ("127.0.0.1", 2021, None, false),
        ("example.org", 2099, None, false),
        ("127.0.0.1", 2099, Some(strange), false),
        ("127.0.0.1", 2099, None, true),
    ] {
        let (tls, own) = certificate(host, until);
        let ca_pem = authority.unwrap_or(own);
        let proxy = Proxy::start(&world.sandbox_url, Some(tls)).await;
        let more = json!({"base_url": format!("https://{}", proxy.address), "ca_pem": ca_pem});
        let put = world.put_fcm_channel_at(&world.app_id, "fcm", "demo-project", more).await;
        assert!(put.status.is_success(), "{}", put.body);
        let before = world.sandbox(Method::GET, "/summary", None).await;
        let id = world.send(to_all()).await;
        if good {
            world.done(&id).await;
            assert!(proxy.stood.load(Ordering::SeqCst) > 0);
            break;
        }
        failed(&world, &id, "vendor_unavailable").await;
        assert_eq!(proxy.stood.load(Ordering::SeqCst), 0, "a connection to {host} until {until} stood");
        let after = world.sandbox(Method::GET, "/summary", None).await;
        assert_eq!(before["requests"], after["requests"]);
    }
    let list = world.api(Method::GET, "/v1/messages", None).await;
    for message in list.body["data"].as_array().unwrap() {
        let done = world.done(message["id"].as_str().unwrap()).await;
        assert_eq!(done["counts"]["now"]["accepted"], PHONES, "{done:#}");
    }
    assert!(world.stop_gateway().success());
    ledger::check(&world, Bounds::default()).await;
}
