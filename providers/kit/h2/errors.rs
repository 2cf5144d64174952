//! What a broken exchange says about the request.

use ::h2::{Error, Reason};

use super::streams::Lease;
use crate::kit::failure::{TransportError, TransportErrorKind, chain};

/// The connection ended just before it took the request: nothing of it left.
pub(super) fn not_taken(error: &Error, lease: &Lease) -> TransportError {
    lease.carrier().retire();
    certificate_refused(lease)
        .unwrap_or_else(|| TransportError::new(TransportErrorKind::NotSent, chain(error)))
}

/// The exchange broke before the head of an answer came.
pub(super) fn before_answer(error: &Error, lease: &Lease) -> TransportError {
    if is_unprocessed(error) {
        return TransportError::new(TransportErrorKind::NotProcessed, chain(error)).farewell(farewell(error));
    }
    certificate_refused(lease)
        .unwrap_or_else(|| TransportError::new(TransportErrorKind::MaybeSent, chain(error)))
}

/// What the end of the connection says, where it is because of our certificate.
pub(super) fn certificate_refused(lease: &Lease) -> Option<TransportError> {
    let words = lease.last_words();
    refuses_certificate(words).then(|| TransportError::new(TransportErrorKind::CertificateRefused, words))
}

/// The exchange broke after the head of an answer: the vendor has acted.
pub(super) fn within_answer(error: &Error) -> TransportError {
    TransportError::new(TransportErrorKind::MaybeSent, chain(error))
}

/// RFC 9113 §8.7: a stream above a GOAWAY's last id and one reset with REFUSED_STREAM were not processed. `h2` ends
/// exactly the streams above the last id with the peer's GOAWAY; the others end as broken pipes.
fn is_unprocessed(error: &Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
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
fn farewell(error: &Error) -> Option<String> {
    let text = (error.is_go_away() && error.is_remote()).then(|| error.to_string())?;
    let quoted = text.split_once("(b\"")?.1.strip_suffix("\")")?;
    let said = quoted.replace("\\\"", "\"").replace("\\\\", "\\");
    (!said.is_empty()).then_some(said)
}
