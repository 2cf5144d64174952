//! `GET /v1/device/socket`: from a request to a WebSocket.

use std::sync::Arc;

use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use url::Url;

use super::auth::Caller;
use super::socket;
use super::tuning::MOST_BYTES;
use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;

/// The one dialect; echoed only if it was offered.
const PROTOCOL: &str = "anypush.v1";

/// A request that may become a socket. Taken before [`Caller`], so that a page of a foreign origin learns nothing and
/// uses up no ticket.
pub(super) struct Upgrade(WebSocketUpgrade);

impl FromRequestParts<Arc<Gateway>> for Upgrade {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Answer<Self> {
        if !origin_may(parts, &gateway.settings.device.origins) {
            let why = "pages of this origin may not connect; add it to `device.origins` if they should";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", why));
        }
        if gateway.tasks.is_stopping() {
            let why = "the gateway is restarting";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why).retry_after(2));
        }
        WebSocketUpgrade::from_request_parts(parts, gateway).await.map(Self).map_err(|error| refused(&error))
    }
}

/// Turns the request into a socket.
pub(super) async fn open(
    State(gateway): State<Arc<Gateway>>,
    Upgrade(upgrade): Upgrade,
    Caller(phone): Caller,
) -> Response {
    upgrade
        .protocols([PROTOCOL])
        // The library's defaults keep 128 KiB for each connection, however idle.
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_write_buffer_size(64 << 10)
        .max_message_size(MOST_BYTES)
        .max_frame_size(MOST_BYTES)
        .on_upgrade(move |socket| socket::serve(socket, gateway, phone))
        .into_response()
}

/// Native apps send no Origin; browsers always do, and it is what tells our page from another.
fn origin_may(parts: &Parts, listed: &[String]) -> bool {
    let Some(origin) = parts.headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if listed.iter().any(|one| one.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return true;
    }
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(axum::http::uri::Authority::as_str));
    let (Ok(origin), Some(host)) = (Url::parse(origin), host) else { return false };
    if !matches!(origin.scheme(), "http" | "https") {
        return false;
    }
    // Read under the origin's scheme, a port that is the scheme's own is left out on both sides.
    Url::parse(&format!("{}://{host}", origin.scheme())).is_ok_and(|own| own.origin() == origin.origin())
}

fn refused(error: &WebSocketUpgradeRejection) -> Problem {
    Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "upgrade_required",
        format!("this is a WebSocket endpoint: {}", error.body_text()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(origin: Option<&str>, host: &str) -> bool {
        let mut request = axum::http::Request::builder().uri("/v1/device/socket").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        origin_may(&parts, &["https://app.example/".to_owned()])
    }

    #[test]
    fn only_our_own_and_listed_pages_may_connect() {
        assert!(may(None, "push.example"));
        assert!(may(Some("https://push.example"), "push.example"));
        assert!(may(Some("https://push.example"), "PUSH.example:443"));
        assert!(may(Some("http://localhost:8080"), "localhost:8080"));
        assert!(may(Some("https://app.example"), "push.example"));
        for origin in [
            "null",
            "",
            "https://evil.example",
            "https://push.example.evil",
            "http://localhost:81",
            "file://push.example",
            "https://push.example:8443",
            "https://app.example.evil",
        ] {
            assert!(!may(Some(origin), "push.example"), "{origin}");
        }
    }
}
