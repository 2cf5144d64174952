//! What a broken exchange says about the request.

use std::error::Error;

use super::streams::Lease;
use crate::kit::failure::{TransportError, TransportErrorKind, chain};

/// The exchange broke before the head of an answer came.
pub(super) fn before_answer(error: &hyper::Error, lease: &Lease) -> TransportError {
    let text = chain(error);
    if is_unprocessed(error) {
        return TransportError::new(TransportErrorKind::NotProcessed, text).farewell(farewell(error));
    }
    if refuses_certificate(lease.last_words()) {
        return TransportError::new(TransportErrorKind::CertificateRefused, lease.last_words());
    }
    // What our own side refuses was not written.
    let kind = if error.is_user() { TransportErrorKind::NotSent } else { TransportErrorKind::MaybeSent };
    TransportError::new(kind, text)
}

/// The exchange broke after the head of an answer: the vendor has acted.
pub(super) fn within_answer(error: &hyper::Error) -> TransportError {
    TransportError::new(TransportErrorKind::MaybeSent, chain(error))
}

/// RFC 9113 §8.7: a stream above a GOAWAY's last id and one reset with REFUSED_STREAM were not processed. `h2` ends
/// exactly the streams above the last id with the peer's GOAWAY; the others end as broken pipes.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let Some(error) = find(error) else { return false };
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || refused)
}

/// Whether the peer ended TLS because of our certificate. With TLS 1.3 that comes after our side of the handshake is done,
/// as the end of a connection on which nothing was processed; `h2` keeps only its text.
pub(super) fn refuses_certificate(text: &str) -> bool {
    const ALERTS: [&str; 8] = [
        "BadCertificate",
        "UnsupportedCertificate",
        "CertificateRevoked",
        "CertificateExpired",
        "CertificateUnknown",
        "CertificateRequired",
        "UnknownCA",
        "AccessDenied",
    ];
    text.split("received fatal alert: ")
        .skip(1)
        .any(|alert| ALERTS.iter().any(|name| alert.starts_with(name)))
}

/// The debug data of the GOAWAY that ended a request. `h2` shows it as a quoted byte string at the end of its text.
fn farewell(error: &hyper::Error) -> Option<String> {
    let error = find(error).filter(|error| error.is_go_away() && error.is_remote())?;
    let text = error.to_string();
    let quoted = text.split_once("(b\"")?.1.strip_suffix("\")")?;
    let said = quoted.replace("\\\"", "\"").replace("\\\\", "\\");
    (!said.is_empty()).then_some(said)
}

fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a h2::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<h2::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
