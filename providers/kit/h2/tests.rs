//! The pool against peers that behave, and peers that do not.

use std::sync::atomic::AtomicU32;

use futures_util::future::join_all;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::kit::testing::raw_peer::{Does, peer};
use crate::kit::testing::{FakeVendor, Reply};

fn pool(base: &str, options: H2Options) -> H2Pool {
    H2Pool::new(&Url::parse(base).unwrap(), options).unwrap()
}

fn request(base: &str) -> Request<Bytes> {
    Request::post(format!("{base}/send")).body(Bytes::from_static(b"hello")).unwrap()
}

fn quick() -> H2Options {
    H2Options { request_timeout: Duration::from_secs(5), ..H2Options::default() }
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
    let pool = pool(&peer.base, H2Options { max_connections: 1, warm_up: true, ..quick() });
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
async fn an_answer_that_breaks_off_leaves_doubt() {
    let peer = peer(100, |_, _| Does::HeadOnly).await;
    let error = pool(&peer.base, quick()).send(request(&peer.base)).await.unwrap_err();
    assert_eq!(error.kind, TransportErrorKind::MaybeSent, "{error}");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
async fn a_request_above_a_goaways_last_stream_was_not_processed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // An empty SETTINGS; then, once something came, GOAWAY: last stream 0, NO_ERROR.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"hello") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        stream.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let _ = stream.read_buf(&mut seen).await;
    });
    let error = pool(&base, quick()).send(request(&base)).await.unwrap_err();
    task.abort();
    assert_eq!(error.kind, TransportErrorKind::NotProcessed, "{error}");
}

#[tokio::test]
async fn silence_after_the_request_is_doubt_and_before_it_is_not() {
    let options = H2Options { request_timeout: Duration::from_millis(500), ..H2Options::default() };
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
