//! Which pages may open a connection, and whether the gateway takes any now.

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use url::Url;

use crate::api::problem::{Answer, Problem};
use crate::app::Gateway;

/// Refuses pages of foreign origins, and everybody while the gateway stops. Answers the origin of a page that may come.
/// To be asked before who it is, so that a foreign page learns nothing and uses up no ticket.
pub(super) fn admit(parts: &Parts, gateway: &Gateway) -> Answer<Option<HeaderValue>> {
    if !may(parts, &gateway.settings.device.origins) {
        let why = "pages of this origin may not connect; add it to `device.origins` if they should";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", why));
    }
    if gateway.tasks.is_stopping() {
        let why = "the gateway is restarting";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why).retry_after(2));
    }
    Ok(parts.headers.get(header::ORIGIN).cloned())
}

/// Native apps send no Origin; browsers always do, and it is what tells our page from another.
fn may(parts: &Parts, listed: &[String]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn page_may(origin: Option<&str>, host: &str) -> bool {
        let mut request = axum::http::Request::builder().uri("/v1/device/socket").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        may(&parts, &["https://app.example/".to_owned()])
    }

    #[test]
    fn only_our_own_and_listed_pages_may_connect() {
        assert!(page_may(None, "push.example"));
        assert!(page_may(Some("https://push.example"), "push.example"));
        assert!(page_may(Some("https://push.example"), "PUSH.example:443"));
        assert!(page_may(Some("http://localhost:8080"), "localhost:8080"));
        assert!(page_may(Some("https://app.example"), "push.example"));
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
            assert!(!page_may(Some(origin), "push.example"), "{origin}");
        }
    }
}
