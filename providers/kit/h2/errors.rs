//! What a broken exchange says about the request.

use std::error::Error;

use crate::kit::failure::{TransportError, TransportErrorKind, chain};

/// The exchange broke before the head of an answer came.
pub(super) fn before_answer(error: &hyper::Error) -> TransportError {
    let kind = if is_unprocessed(error) {
        TransportErrorKind::NotProcessed
    } else if error.is_user() {
        // Refused by our own side, before it was written.
        TransportErrorKind::NotSent
    } else {
        TransportErrorKind::MaybeSent
    };
    TransportError::new(kind, chain(error))
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
