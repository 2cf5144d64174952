//! The only place that builds a `reqwest::Client`: the guard of [`super::egress`], time-outs, no redirects, no proxy from
//! the environment, and answers that are never read beyond a cap.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;

use super::egress::Egress;
use super::failure::{TransportError, TransportErrorKind, chain};
use super::tls;

/// No vendor's answer is longer; what is, is garbage or an attack.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The longest time for one request when nobody says otherwise.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest time until a connection stands.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a client is made.
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// `User-Agent`; empty: none is sent.
    pub user_agent: String,
    /// Longest time for one request with its body; [`DEFAULT_REQUEST_TIMEOUT`] if absent.
    pub request_timeout: Option<Duration>,
    /// Authorities to trust beside the system's.
    pub ca_pem: Option<String>,
    /// Only `http` addresses will be called: works on a machine that has no authorities at all.
    pub without_tls: bool,
    /// Where it may call. The default is the public Internet.
    pub egress: Egress,
}

/// Builds a client. Redirects are not followed: they would carry our credentials along.
#[expect(clippy::disallowed_methods, reason = "this is the one place that sets what every client must have")]
pub fn client(options: &HttpOptions) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .proxy(options.egress.detour())
        .dns_resolver(options.egress.resolver())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(options.request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT))
        .pool_idle_timeout(Duration::from_mins(1))
        .tcp_keepalive(Duration::from_secs(30))
        .tcp_nodelay(true);
    if !options.user_agent.is_empty() {
        builder = builder.user_agent(&options.user_agent);
    }
    if let Some(pem) = &options.ca_pem {
        tls::certificates(pem)?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| chain(&error))?;
        builder = builder.tls_certs_merge(certificates);
    } else if options.without_tls {
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| chain(&error))
}

/// Sends a request and reads the whole answer, [`MAX_BODY_BYTES`] at most (counted after decompression).
pub async fn send(request: reqwest::RequestBuilder) -> Result<http::Response<Bytes>, TransportError> {
    exchange(request, MAX_BODY_BYTES, true).await
}

/// Sends a request to whom we do not know, and reads the first `most` bytes of the answer (counted after decompression).
/// What comes after them is left on the wire, and the connection with it.
pub async fn send_cut(
    request: reqwest::RequestBuilder,
    most: usize,
) -> Result<http::Response<Bytes>, TransportError> {
    exchange(request, most, false).await
}

async fn exchange(
    request: reqwest::RequestBuilder,
    most: usize,
    whole: bool,
) -> Result<http::Response<Bytes>, TransportError> {
    let mut response = request.send().await.map_err(|error| transport_error(error, Phase::Head))?;
    let mut answer = http::Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        *headers = std::mem::take(response.headers_mut());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(error, Phase::Body))? {
        let room = most - body.len();
        if chunk.len() > room && whole {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            break;
        }
    }
    answer
        .body(body.freeze())
        .map_err(|error| TransportError::new(TransportErrorKind::BadAnswer, chain(&error)))
}

/// An answer beyond the cap.
pub(super) fn too_long() -> TransportError {
    TransportError::new(
        TransportErrorKind::BadAnswer,
        format!("the answer is longer than {MAX_BODY_BYTES} bytes"),
    )
}

/// Which part of the answer was being waited for.
#[derive(Clone, Copy)]
enum Phase {
    Head,
    Body,
}

fn transport_error(error: reqwest::Error, phase: Phase) -> TransportError {
    let kind = if error.is_connect() || error.is_builder() {
        TransportErrorKind::NotSent
    } else if error.is_decode() && matches!(phase, Phase::Body) {
        TransportErrorKind::BadAnswer
    } else {
        TransportErrorKind::MaybeSent
    };
    // The URL may hold an identifier that is nobody's business.
    TransportError::new(kind, chain(&error.without_url()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::testing::{FakeVendor, Reply, environment};

    fn plain() -> reqwest::Client {
        let egress = environment().egress;
        let request_timeout = Some(Duration::from_secs(1));
        client(&HttpOptions { request_timeout, egress, ..HttpOptions::default() }).unwrap()
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let vendor = FakeVendor::start(|_| Reply::status(307).header("location", "/elsewhere")).await;
        let answer = send(plain().post(vendor.url("/token")).bearer_auth("secret")).await.unwrap();
        assert_eq!(answer.status(), 307);
        assert_eq!(vendor.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_huge_answer_is_not_read_to_its_end() {
        let vendor = FakeVendor::start(|_| Reply::ok("x".repeat(MAX_BODY_BYTES + 1))).await;
        let error = send(plain().get(vendor.url("/"))).await.unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::BadAnswer);
    }

    /// A41.
    #[tokio::test]
    async fn of_an_endless_answer_from_a_stranger_only_the_beginning_is_read() {
        let vendor = FakeVendor::start(|_| Reply::status(500).body("x".repeat(3 * MAX_BODY_BYTES))).await;
        let answer = send_cut(plain().get(vendor.url("/")), 64 * 1024).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().len()), (500, 64 * 1024));
        let short = FakeVendor::start(|_| Reply::ok("short")).await;
        assert_eq!(send_cut(plain().get(short.url("/")), 64 * 1024).await.unwrap().body(), "short");
    }

    #[tokio::test]
    async fn a_closed_port_means_not_sent_and_silence_means_maybe_sent() {
        let gone = FakeVendor::start(|_| Reply::ok("")).await.shut().await;
        let error = send(plain().get(gone)).await.unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::NotSent, "{error}");

        let silent = FakeVendor::start(|_| Reply::ok("").after(Duration::from_secs(5))).await;
        let error = send(plain().get(silent.url("/"))).await.unwrap_err();
        assert_eq!(error.kind, TransportErrorKind::MaybeSent, "{error}");
    }
}
