//! One target's request: made, sent, and repeated once where the vendor says that it did not look at it.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request as HttpRequest, Uri};
use serde_json::{Value, json};

use super::auth::Bearer;
use super::codes::{self, Asked, CLOCK_WORDS, Reading, Then};
use super::config::Credential;
use super::payload::{self, Collapse, Rendered, apns_id, key_text};
use super::{Apns, Origin};
use crate::contract::{Batch, Failure, Preview, Reason, Target, VendorEcho};
use crate::kit::echo;
use crate::kit::failure::Unsendable;
use crate::kit::h2::Carrier;

static PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
static TOPIC: HeaderName = HeaderName::from_static("apns-topic");
static PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
static EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
static ID: HeaderName = HeaderName::from_static("apns-id");
static COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");

/// A request that may be sent more than once.
pub(super) struct Request<'a> {
    origin: &'a Origin,
    uri: Uri,
    rendered: &'a Rendered,
    key: u128,
    topic: HeaderValue,
    token: &'a str,
    asked: Asked,
}

impl Apns {
    /// The request for one target, but for its authorization; or why there is none.
    pub(super) fn request<'a>(
        &'a self,
        rendered: &'a Rendered,
        target: &'a Target,
    ) -> Result<Request<'a>, Unsendable> {
        let refuse = |reason, why: &str| Unsendable::new(reason, why);
        let address = &target.address;
        let token = address.token.expose();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse(Reason::InvalidToken, "the token is no hexadecimal number"));
        }
        let stage = self.stage_of(address);
        let origin = self.origins.iter().find(|origin| Some(origin.stage) == stage);
        let origin =
            origin.ok_or_else(|| refuse(Reason::NoRoute, "the channel does not send to this environment"))?;
        let uri = format!("{}/3/device/{}", origin.base, token.to_ascii_lowercase());
        let uri = uri.parse().map_err(|_| refuse(Reason::PayloadInvalid, "there is no such address"))?;
        let own_topic = address.params.get("topic").filter(|topic| **topic != self.config.bundle_id);
        let base = own_topic.unwrap_or(&self.config.bundle_id);
        let suffix = rendered.push_type.topic_suffix();
        let topic = if base.ends_with(suffix) { base.clone() } else { format!("{base}{suffix}") };
        let topic = HeaderValue::try_from(topic)
            .map_err(|_| refuse(Reason::WrongApp, "the address' topic is no bundle id"))?;
        let asked = Asked {
            plain_topic: suffix.is_empty(),
            own_topic: own_topic.is_some(),
            both_stages: self.origins.len() > 1,
        };
        Ok(Request { origin, uri, rendered, key: target.key, topic, token, asked })
    }

    /// Posts a request; if our token is too old, once more with a new one; if the connection is of no more use, once
    /// more on another.
    pub(super) async fn deliver(&self, request: &Request<'_>, now: fn() -> SystemTime) -> Reading {
        let bearer = match self.bearer(now()) {
            Ok(bearer) => bearer,
            Err(reading) => return *reading,
        };
        let (first, carrier) = self.post(request, bearer.as_deref(), now).await;
        if first.then != Then::RenewToken && first.then != Then::Nothing {
            retire(carrier.as_ref());
        }
        let again = match (first.then, &self.config.credential, &bearer) {
            (Then::Reconnect, ..) => bearer,
            (Then::RenewToken, Credential::Key(key), Some(old)) => match key.replace(old, now()) {
                Some(Ok(fresh)) => Some(fresh),
                Some(Err(why)) => return unsigned(&why),
                None => {
                    let words = echo::words(CLOCK_WORDS, &[]);
                    return Reading { vendor: VendorEcho { words, ..first.vendor }, ..first };
                }
            },
            _ => return first,
        };
        let (second, carrier) = self.post(request, again.as_deref(), now).await;
        if matches!(second.then, Then::Reconnect | Then::Disconnect) {
            retire(carrier.as_ref());
        }
        second
    }

    /// What proves who we are, beside TLS; or why nothing does.
    fn bearer(&self, now: SystemTime) -> Result<Option<Arc<Bearer>>, Box<Reading>> {
        match &self.config.credential {
            Credential::Key(key) => key.bearer(now).map(Some).map_err(|why| Box::new(unsigned(&why))),
            Credential::Certificate { facts, .. } => match facts.unusable(now) {
                Some(why) => Err(Box::new(unsigned(&why))),
                None => Ok(None),
            },
        }
    }

    async fn post(
        &self,
        request: &Request<'_>,
        bearer: Option<&Bearer>,
        now: fn() -> SystemTime,
    ) -> (Reading, Option<Carrier>) {
        let mut wire = HttpRequest::new(request.rendered.body.clone());
        *wire.method_mut() = Method::POST;
        *wire.uri_mut() = request.uri.clone();
        *wire.headers_mut() = request.headers();
        if let Some(bearer) = bearer {
            wire.headers_mut().insert(AUTHORIZATION, bearer.header.clone());
        }
        if let Some(user_agent) = &self.user_agent {
            wire.headers_mut().insert(USER_AGENT, user_agent.clone());
        }
        let secret = bearer.map_or("", |bearer| bearer.secret.as_str());
        match request.origin.pool.send_by(wire).await {
            Ok((answer, carrier)) => {
                (codes::read(&answer, request.asked, now(), &[request.token, secret]), Some(carrier))
            }
            Err(error) => (codes::read_error(&error, request.asked), None),
        }
    }

    /// What would be sent, for people.
    pub(super) fn show(&self, batch: &Batch, target: &Target, now: SystemTime) -> Preview {
        let refused = |unsendable: &Unsendable| Preview {
            dropped: payload::dropped(&batch.content),
            refused: Some(unsendable.refusal()),
            ..Preview::default()
        };
        let rendered = match payload::render(batch, &target.address.kind, now) {
            Ok(rendered) => rendered,
            Err(unsendable) => return refused(&unsendable),
        };
        let request = match self.request(&rendered, target) {
            Ok(request) => request,
            Err(unsendable) => return refused(&unsendable),
        };
        let headers: serde_json::Map<String, Value> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
            .collect();
        let mut payload: Value = serde_json::from_slice(&rendered.body).unwrap_or_default();
        payload["headers"] = json!(headers);
        let image = batch.content.notification.as_ref().is_some_and(|shown| shown.image.is_some());
        let warnings = image.then(|| {
            "the picture shows only if the app has a notification service extension that loads anypush_image"
                .to_owned()
        });
        Preview {
            payload,
            bytes: rendered.body.len() as u32,
            max_bytes: Some(rendered.push_type.max_bytes() as u32),
            dropped: payload::dropped(&batch.content),
            class: Some(rendered.push_type.name().to_owned()),
            warnings: warnings.into_iter().collect(),
            ..Preview::default()
        }
    }
}

impl Request<'_> {
    /// All but its authorization.
    fn headers(&self) -> HeaderMap {
        let Self { rendered, key, .. } = *self;
        let mut headers = HeaderMap::with_capacity(10);
        headers.insert(&PUSH_TYPE, HeaderValue::from_static(rendered.push_type.name()));
        headers.insert(&TOPIC, self.topic.clone());
        headers.insert(&PRIORITY, rendered.priority.clone());
        headers.insert(&EXPIRATION, rendered.expiration.clone());
        // Different for each request: kept out of HPACK's table, where it would only push out the others.
        let unique = |text: String| {
            let mut value = HeaderValue::try_from(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        if let Some(id) = unique(apns_id(key)) {
            headers.insert(&ID, id);
        }
        match &rendered.collapse_id {
            Collapse::Never => {}
            Collapse::Given(id) => {
                headers.insert(&COLLAPSE_ID, id.clone());
            }
            Collapse::Delivery => {
                if let Some(id) = unique(key_text(key)) {
                    headers.insert(&COLLAPSE_ID, id);
                }
            }
        }
        headers
    }
}

fn retire(carrier: Option<&Carrier>) {
    if let Some(carrier) = carrier {
        carrier.retire();
    }
}

fn unsigned(why: &str) -> Reading {
    let vendor = VendorEcho { words: echo::words(why, &[]), ..VendorEcho::default() };
    Reading::failed(Failure::channel(Reason::AuthFailed), vendor)
}
