//! The guard against addresses that try to get around it, over real sockets.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use tokio::net::TcpListener;

use super::*;
use crate::kit::failure::TransportErrorKind;
use crate::kit::h2::{H2Options, H2Pool};
use crate::kit::http::{HttpOptions, client, send};
use crate::kit::testing::{FakeVendor, Reply};

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// Names whose addresses change with each question; the last answer stays.
struct Told(Mutex<Vec<Vec<&'static str>>>);

impl Told {
    fn new(answers: &[&[&'static str]]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(answers.iter().rev().map(|all| all.to_vec()).collect())))
    }
}

impl Lookup for Told {
    fn lookup<'a>(&'a self, _: &'a str) -> Addresses<'a> {
        let mut answers = self.0.lock().unwrap();
        let now = if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() };
        Box::pin(async move { Ok(now.iter().map(|text| text.parse().unwrap()).collect()) })
    }
}

/// A port of this machine and how often somebody came.
#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
async fn trap() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicUsize::new(0));
    let count = came.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, came)
}

/// A guard that would let http pass, so that the ports of these tests are all that is in the way.
fn with(names: Arc<dyn Lookup>) -> Egress {
    Egress::new([], true).with_names(names)
}

/// Calls through both kinds of client; answers what each said.
async fn call(egress: &Egress, base: &str) -> [crate::kit::failure::TransportError; 2] {
    let reqwest = client(&HttpOptions { egress: egress.clone(), ..HttpOptions::default() }).unwrap();
    let by_reqwest = send(reqwest.get(base)).await.unwrap_err();
    let pool = H2Pool::new(&url(base), H2Options { egress: egress.clone(), ..H2Options::default() }).unwrap();
    let by_pool = pool.send(Request::get(base).body(Bytes::new()).unwrap()).await.unwrap_err();
    [by_reqwest, by_pool]
}

/// A38, at save.
#[tokio::test]
async fn addresses_of_private_networks_are_refused_however_they_are_written() {
    let refused = [
        ("https://127.0.0.1/", Refused::Network),
        ("https://localhost/", Refused::Network),
        ("https://LOCALHOST./", Refused::Network),
        ("https://a.localhost/", Refused::Network),
        ("https://redis/", Refused::Network),
        ("https://0.0.0.0/", Refused::Network),
        ("https://[::1]/", Refused::Network),
        ("https://[::]/", Refused::Network),
        ("https://[::ffff:127.0.0.1]/", Refused::Network),
        ("https://2130706433/", Refused::Network),
        ("https://0177.1/", Refused::Network),
        ("https://0x7f.0.0.1/", Refused::Network),
        ("https://127.1/", Refused::Network),
        ("https://１２７.０.０.１/", Refused::Network),
        ("https://169.254.169.254/latest/meta-data/", Refused::Network),
        ("https://metadata.google.internal/", Refused::Network),
        ("https://printer.local/", Refused::Network),
        ("https://router.home.arpa/", Refused::Network),
        ("https://100.64.0.1/", Refused::Network),
        ("https://[fc00::1]/", Refused::Network),
        ("https://[fe80::1]/", Refused::Network),
        ("https://[64:ff9b::7f00:1]/", Refused::Network),
        ("https://[2002:7f00:1::]/", Refused::Network),
        ("https://good@example.com/", Refused::Credentials),
        ("https://good:word@example.com/", Refused::Credentials),
        ("http://good@127.0.0.1/", Refused::Credentials),
        ("https://good#@evil", Refused::Network),
        ("https://example.com:22/", Refused::Port(22)),
        ("https://example.com:6379/", Refused::Port(6379)),
        ("https://1.1.1.1:8080/", Refused::Port(8080)),
        ("http://example.com/", Refused::Scheme),
        ("file:///etc/passwd", Refused::Scheme),
        ("gopher://example.com/", Refused::Scheme),
        ("unix:/run/docker.sock", Refused::Scheme),
        ("ftp://example.com/", Refused::Scheme),
    ];
    let guard = Egress::default();
    for (text, why) in refused {
        assert_eq!(guard.permits(&url(text)), Err(why.clone()), "{text}");
        assert_eq!(guard.permits_now(&url(text)).await, Err(why), "{text}");
    }
    for text in [
        "https://example.com/hook?x=1",
        "https://example.com:8443/",
        "https://1.1.1.1/",
        "https://[2606:4700::1111]/",
    ] {
        assert_eq!(guard.permits(&url(text)), Ok(()), "{text}");
    }
}

/// A38, at connect: both clients, however the address came to them.
#[tokio::test]
async fn no_connection_is_made_to_a_refused_address() {
    let (port, came) = trap().await;
    let names = Told::new(&[&["127.0.0.1"]]);
    let guard = with(names);
    let plain = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://localhost:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        // A name that is good until it is resolved.
        "http://good.example/".to_owned(),
        "https://good.example/".to_owned(),
    ];
    for base in plain {
        for error in call(&guard, &base).await {
            assert_eq!(error.kind, TransportErrorKind::NotSent, "{base}: {error}");
            assert!(error.detail.contains("refused") || error.detail.contains("reserved"), "{base}: {error}");
            assert!(!error.detail.contains("127.0.0.1") || base.contains("127.0.0.1"), "{error}");
        }
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
}

/// A39: good when it was saved, bad when it is called.
#[tokio::test]
async fn a_name_that_changes_its_mind_is_refused_when_it_is_called() {
    let (port, came) = trap().await;
    let names = Told::new(&[&["93.184.215.14"], &["127.0.0.1"]]);
    // The port is that of the trap, so that a guard which connected after all would be seen.
    let guard = Egress::new(["10.0.0.0/8"], true).with_names(names);
    let base = format!("http://rebind.example:{port}/");
    assert_eq!(guard.permits_now(&url("http://rebind.example/")).await, Ok(()));
    assert!(guard.addresses("rebind.example", port).await.is_err());
    for error in call(&guard, &base).await {
        assert_eq!(error.kind, TransportErrorKind::NotSent, "{error}");
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
}

/// A39: one private address among public ones refuses the name, in whatever order they come.
#[tokio::test]
async fn a_name_with_one_refused_address_is_refused_whole() {
    let mixed: [&[&'static str]; 4] = [
        &["93.184.215.14", "10.0.0.1"],
        &["10.0.0.1", "93.184.215.14"],
        &["2606:4700::1111", "::ffff:10.0.0.1"],
        &["93.184.215.14", "64:ff9b::a9fe:a9fe"],
    ];
    for answers in mixed {
        let guard = with(Told::new(&[answers]));
        assert_eq!(
            guard.permits_now(&url("https://mixed.example/")).await,
            Err(Refused::Network),
            "{answers:?}"
        );
        let error = guard.addresses("mixed.example", 443).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        // Nobody learns what it resolved to.
        assert!(!error.to_string().contains("10.0.0.1"), "{error}");
    }
}

/// A39: the connection goes to the address that was looked at; nobody asks for the name again in between.
#[tokio::test]
async fn a_connection_goes_to_the_address_that_was_looked_at() {
    let vendor = FakeVendor::start(|_| Reply::ok("here")).await;
    let port = url(&vendor.url("/")).port().unwrap();
    // This machine's address is allowed, the next answer's is not: asked twice for one connection, it would be refused.
    for by_pool in [false, true] {
        let names = Told::new(&[&["127.0.0.1"], &["169.254.169.254"]]);
        let guard = Egress::new(["127.0.0.1", "once.example"], true).with_names(names);
        let base = format!("http://once.example:{port}/");
        let answer = if by_pool {
            let options = H2Options { egress: guard, ..H2Options::default() };
            let pool = H2Pool::new(&url(&base), options).unwrap();
            pool.send(Request::get(&base).body(Bytes::new()).unwrap()).await
        } else {
            send(client(&HttpOptions { egress: guard, ..HttpOptions::default() }).unwrap().get(&base)).await
        };
        assert_eq!(answer.unwrap().body(), "here");
    }
}

/// A40, A52.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let vendor = FakeVendor::start(|_| {
        Reply::status(302).header("location", "http://169.254.169.254/latest/meta-data/")
    })
    .await;
    let guard = Egress::new(["127.0.0.1"], false);
    let reqwest = client(&HttpOptions { egress: guard, ..HttpOptions::default() }).unwrap();
    assert_eq!(send(reqwest.get(vendor.url("/"))).await.unwrap().status(), 302);
    assert_eq!(vendor.requests().len(), 1);
}

/// A43: what the configuration names is called, by http and at any port too.
#[tokio::test]
async fn what_is_allowed_by_name_address_or_network_is_called() {
    let vendor = FakeVendor::start(|_| Reply::ok("here")).await;
    for rule in ["127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.1"] {
        let guard = Egress::new([rule], false);
        let reqwest = client(&HttpOptions { egress: guard.clone(), ..HttpOptions::default() }).unwrap();
        assert_eq!(send(reqwest.get(vendor.url("/"))).await.unwrap().body(), "here", "{rule}");
        // Its neighbours are not.
        assert_eq!(guard.permits(&url("http://10.0.0.1/")), Err(Refused::Scheme), "{rule}");
        assert_eq!(guard.permits(&url("https://10.0.0.1/")), Err(Refused::Network), "{rule}");
    }
    let named = Egress::new(["Vendors.Internal."], false).with_names(Told::new(&[&["10.0.0.7"]]));
    assert_eq!(named.permits_now(&url("http://vendors.internal:8080/")).await, Ok(()));
    assert_eq!(named.addresses("vendors.internal", 1).await.unwrap()[0].to_string(), "10.0.0.7:1");
    assert_eq!(named.permits(&url("https://other.internal/")), Err(Refused::Network));
    assert!(is_rule("10.1.0.0/16") && is_rule("::1") && is_rule("a.example"));
    assert!(!is_rule("http://a.example") && !is_rule("a b") && !is_rule(""));
}

/// A name that does not resolve may be saved: a vendor's outage must not keep ops from working.
#[tokio::test]
async fn a_name_that_does_not_resolve_is_saved_and_fails_when_called() {
    struct Down;
    impl Lookup for Down {
        fn lookup<'a>(&'a self, _: &'a str) -> Addresses<'a> {
            Box::pin(async { Err(io::Error::other("no such name")) })
        }
    }
    let guard = with(Arc::new(Down));
    assert_eq!(guard.permits_now(&url("https://down.example/")).await, Ok(()));
    assert!(guard.addresses("down.example", 443).await.is_err());
}
