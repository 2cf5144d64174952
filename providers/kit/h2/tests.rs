//! The pool against peers that behave, and peers that do not.

use std::sync::atomic::AtomicU32;

use futures_util::future::join_all;
use http::StatusCode;
use tokio::net::TcpListener;

use super::*;
use crate::kit::testing::raw_peer::{Does, leaving_peer, peer};
use crate::kit::testing::{FakeVendor, Reply, environment};

fn pool(base: &str, options: H2Options) -> H2Pool {
    H2Pool::new(&Url::parse(base).unwrap(), options).unwrap()
}

fn request(base: &str) -> Request<Bytes> {
    Request::post(format!("{base}/send")).body(Bytes::from_static(b"hello")).unwrap()
}

fn quick() -> H2Options {
    H2Options {
        request_timeout: Duration::from_secs(5),
        egress: environment().egress,
        ..H2Options::default()
    }
}

#[tokio::test]
async fn one_connection_serves_until_its_streams_are_used_up_then_the_next_opens() {
    let peer = peer(100, |_, _| Does::Answer(Duration::from_millis(100))).await;
    let options = H2Options { max_connections: 3, streams_per_connection: 10, ..quick() };
    let pool = pool(&peer.base, options);
    pool.send(request(&peer.base)).await.unwrap();
    join_all((0..10).map(|_| pool.send(request(&peer.base)))).await;
    assert_eq!(peer.connections.load(Ordering::SeqCst), 1);
    let answers = join_all((0..60).map(|_| pool.send(request(&peer.base)))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().body() == "ok"));
    assert_eq!(peer.connections.load(Ordering::SeqCst), 3);
    assert!(peer.most_streams.load(Ordering::SeqCst) <= 10);
}

#[tokio::test]
async fn a_peer_that_allows_fewer_streams_is_respected() {
    let peer = peer(4, |_, _| Does::Answer(Duration::from_millis(30))).await;
    let pool = pool(&peer.base, H2Options { max_connections: 2, ..quick() });
    pool.send(request(&peer.base)).await.unwrap();
    let answers = join_all((0..40).map(|_| pool.send(request(&peer.base)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(peer.most_streams.load(Ordering::SeqCst) <= 4);
    assert_eq!(peer.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_cold_connection_carries_one_request_until_its_first_success() {
    let peer =
        peer(100, |_, stream| Does::Answer(Duration::from_millis(if stream == 0 { 200 } else { 20 }))).await;
    let pool = pool(
        &peer.base,
        H2Options { max_connections: 1, warmed_by: Some(|answer| answer.status().is_success()), ..quick() },
    );
    let early = tokio::time::timeout(
        Duration::from_millis(150),
        join_all((0..20).map(|_| pool.send(request(&peer.base)))),
    );
    assert!(early.await.is_err());
    assert_eq!(peer.most_streams.load(Ordering::SeqCst), 1);
    pool.send(request(&peer.base)).await.unwrap();
    join_all((0..20).map(|_| pool.send(request(&peer.base)))).await;
    assert!(peer.most_streams.load(Ordering::SeqCst) > 10);
}

#[tokio::test]
async fn a_refused_stream_was_not_processed() {
    let peer = peer(100, |_, _| Does::Refuse).await;
    let error = pool(&peer.base, quick()).send(request(&peer.base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::NotProcessed, "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_doubt_and_is_replaced() {
    let peer =
        peer(100, |connection, _| if connection == 0 { Does::HangUp } else { Does::Answer(Duration::ZERO) })
            .await;
    let pool = pool(&peer.base, quick());
    let error = pool.send(request(&peer.base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::MaybeSent, "{error}");
    assert_eq!(pool.send(request(&peer.base)).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn connections_that_take_nothing_more_are_passed_over_before_anything_is_sent() {
    const LEAVING: u32 = 5;
    let peer = peer(100, |connection, stream| match (connection, stream) {
        (0..LEAVING, 0) => Does::Answer(Duration::from_millis(100)),
        (0..LEAVING, _) => Does::LeaveAndAnswer(Duration::from_millis(500)),
        _ => Does::Answer(Duration::ZERO),
    })
    .await;
    let options = H2Options { max_connections: 10, streams_per_connection: 2, ..quick() };
    let pool = pool(&peer.base, options);
    let carried = join_all((0..2 * LEAVING).map(|_| pool.send(request(&peer.base))));
    // Each of those that leave has room by now, and still carries a request.
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        pool.send(request(&peer.base)).await
    };
    let (carried, later) = tokio::join!(carried, later);
    assert!(carried.iter().chain([&later]).all(|answer| answer.as_ref().unwrap().status() == 200));
    assert!(peer.connections.load(Ordering::SeqCst) > LEAVING);
}

#[tokio::test]
async fn an_answer_that_breaks_off_leaves_doubt() {
    let peer = peer(100, |_, _| Does::HeadOnly).await;
    let error = pool(&peer.base, quick()).send(request(&peer.base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::MaybeSent, "{error}");
}

#[tokio::test]
async fn a_request_above_a_goaways_last_stream_was_not_processed_and_the_peer_may_say_why() {
    for (words, heard) in [
        ("", None),
        (r#"{"reason":"BadCertificate"}"#, Some(r#"{"reason":"BadCertificate"}"#)),
        ("a \\ \"b\"", Some("a \\ \"b\"")),
    ] {
        let peer = leaving_peer(words).await;
        let error = pool(&peer.base, quick()).send(request(&peer.base)).await.unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::NotProcessed, "{error}");
        assert_eq!(error.farewell.as_deref(), heard);
    }
}

#[tokio::test]
async fn a_retired_connection_answers_what_it_carries_and_gets_nothing_more() {
    let peer = peer(100, |_, _| Does::Answer(Duration::from_millis(100))).await;
    let pool = pool(&peer.base, H2Options { max_connections: 1, ..quick() });
    let (_, first) = pool.send_by(request(&peer.base)).await.unwrap();
    let carried = pool.send(request(&peer.base));
    let later = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        first.retire();
        first.retire();
        pool.send(request(&peer.base)).await
    };
    let (carried, later) = tokio::join!(carried, later);
    assert_eq!((carried.unwrap().status(), later.unwrap().status()), (StatusCode::OK, StatusCode::OK));
    assert_eq!(peer.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_is_warm_from_the_first_answer_that_proves_it() {
    // Nothing but refusals, of which the adapter knows that the credentials are behind them.
    let peer = peer(100, |_, _| Does::Reply(400, ("x", "y"), "BadDeviceToken")).await;
    let warmed_by = |answer: &Response<Bytes>| answer.status() == 400;
    let pool = pool(&peer.base, H2Options { max_connections: 1, warmed_by: Some(warmed_by), ..quick() });
    pool.send(request(&peer.base)).await.unwrap();
    let most_before = peer.most_streams.load(Ordering::SeqCst);
    join_all((0..50).map(|_| pool.send(request(&peer.base)))).await;
    assert_eq!(most_before, 1);
    assert!(peer.most_streams.load(Ordering::SeqCst) > 1, "one request at a time");
}

#[tokio::test]
async fn silence_after_the_request_is_doubt_and_before_it_is_not() {
    let options = H2Options { request_timeout: Duration::from_millis(500), ..quick() };
    let peer = peer(100, |_, _| Does::Answer(Duration::from_mins(1))).await;
    let error = pool(&peer.base, options.clone()).send(request(&peer.base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::MaybeSent, "{error}");

    // Takes the connection and never says a word: TLS does not come about.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://{}", silent.local_addr().unwrap());
    let error = pool(&base, options).send(request(&base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::NotSent, "{error}");
}

#[tokio::test]
async fn a_closed_port_fails_all_who_wait_and_nothing_was_sent() {
    let base = FakeVendor::start(|_| Reply::ok("")).await.shut().await;
    let pool = pool(&base, quick());
    let answers = join_all((0..50).map(|_| pool.send(request(&base)))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().kind == TransportErrorKind::NotSent));
}

#[tokio::test]
async fn a_body_of_any_size_arrives_as_it_is() {
    let vendor = FakeVendor::start(|seen| Reply::ok(seen.body.clone())).await;
    let pool = pool(&vendor.url(""), quick());
    for size in [0, 1, 1023, 1024, 4096, 70_000] {
        let body: Bytes = (0..size).map(|at| (at % 251) as u8).collect();
        let request = Request::post(vendor.url("/send")).body(body.clone()).unwrap();
        assert!(pool.send(request).await.unwrap().body() == &body, "{size} bytes");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let vendor = FakeVendor::start(|_| Reply::ok("x".repeat(MAX_BODY_BYTES + 1))).await;
    let base = vendor.url("");
    let error = pool(&base, quick()).send(request(&base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::BadAnswer, "{error}");
}

/// A TLS peer with a certificate of its own; returns its address and certificate.
#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
async fn tls_peer(alpn: &[u8]) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let Ok(mut connection) = ::h2::server::handshake(stream).await else { continue };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"ok"), true).unwrap();
            }
        }
    });
    (base, made.cert.pem())
}

#[tokio::test]
async fn a_named_authority_is_trusted_and_a_strange_one_is_not() {
    let (base, pem) = tls_peer(b"h2").await;
    let trusting = H2Options { ca_pem: Some(pem), ..quick() };
    assert_eq!(pool(&base, trusting).send(request(&base)).await.unwrap().body(), "ok");

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mistrusting = H2Options { ca_pem: Some(other.cert.pem()), ..quick() };
    let error = pool(&base, mistrusting).send(request(&base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::NotSent, "{error}");
    assert!(error.detail.contains("TLS"), "{error}");
}

#[tokio::test]
async fn a_peer_without_http2_is_named_as_such() {
    let (base, pem) = tls_peer(b"http/1.1").await;
    let options = H2Options { ca_pem: Some(pem), ..quick() };
    let error = pool(&base, options).send(request(&base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::NotSent, "{error}");
}

#[tokio::test]
async fn who_waits_is_served_before_who_comes_later() {
    let peer = peer(100, |_, _| Does::Answer(Duration::from_millis(20))).await;
    let options = H2Options { max_connections: 1, streams_per_connection: 1, ..quick() };
    let pool = pool(&peer.base, options);
    pool.send(request(&peer.base)).await.unwrap();
    let greedy_answers = AtomicU32::new(0);
    let greedy = async {
        for _ in 0..20 {
            pool.send(request(&peer.base)).await.unwrap();
            greedy_answers.fetch_add(1, Ordering::SeqCst);
        }
    };
    let modest = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        pool.send(request(&peer.base)).await.unwrap();
        greedy_answers.load(Ordering::SeqCst)
    };
    let ((), before) = tokio::join!(greedy, modest);
    assert!(before <= 3, "{before} were let past");
}

#[tokio::test]
async fn a_dropped_request_gives_its_stream_back() {
    let peer =
        peer(100, |_, stream| Does::Answer(if stream < 3 { Duration::from_mins(1) } else { Duration::ZERO }))
            .await;
    let options = H2Options { max_connections: 1, streams_per_connection: 3, ..quick() };
    let pool = pool(&peer.base, options);
    let stuck = join_all((0..3).map(|_| pool.send(request(&peer.base))));
    assert!(tokio::time::timeout(Duration::from_millis(100), stuck).await.is_err());
    assert_eq!(pool.send(request(&peer.base)).await.unwrap().status(), StatusCode::OK);
}

/// A TLS peer that asks for a certificate which `authority` has signed; returns its address and its own certificate.
#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
async fn strict_peer(authority: &rcgen::Certificate) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let clients =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => stream,
                // Hears the client out: closing at once would overtake the alert.
                Err((_, mut stream)) => {
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                    continue;
                }
            };
            let Ok(mut connection) = ::h2::server::handshake(stream).await else { continue };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"known"), true).unwrap();
            }
        }
    });
    (base, made.cert.pem())
}

#[tokio::test]
async fn a_peer_knows_us_by_our_certificate_and_its_refusal_is_no_outage() {
    let signer = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&signer).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &signer);
    let key = rcgen::KeyPair::generate().unwrap();
    let client = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let client = client.signed_by(&key, &issuer).unwrap();
    let (base, pem) = strict_peer(&authority).await;
    let identity =
        |chain: &str, key: &rcgen::KeyPair| Identity::from_pem(chain, &key.serialize_pem()).unwrap();

    let known =
        H2Options { ca_pem: Some(pem.clone()), identity: Some(identity(&client.pem(), &key)), ..quick() };
    assert_eq!(pool(&base, known).send(request(&base)).await.unwrap().body(), "known");

    let stranger = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let strange = identity(&stranger.cert.pem(), &stranger.signing_key);
    for identity in [Some(strange), None] {
        let options = H2Options { ca_pem: Some(pem.clone()), identity, ..quick() };
        let error = pool(&base, options).send(request(&base)).await.unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::CertificateRefused, "{error}");
    }
}
