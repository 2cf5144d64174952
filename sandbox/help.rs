//! `GET /_sandbox`: what can be asked of the sandbox, for people and for programs.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::Query;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::rules::BEHAVIOURS;
use crate::twin::Registration;

#[derive(Deserialize)]
pub(crate) struct HelpQuery {
    format: Option<String>,
}

pub(crate) async fn help(Query(query): Query<HelpQuery>, headers: HeaderMap) -> Response {
    let wants_json = headers
        .get(http::header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("application/json"));
    if wants_json || query.format.as_deref() == Some("json") {
        return Json(as_json()).into_response();
    }
    as_text().into_response()
}

fn as_json() -> Value {
    let behaviours: Vec<_> = BEHAVIOURS
        .iter()
        .map(|(behaviour, prefix, help)| json!({"behaviour": behaviour, "prefix": prefix, "help": help}))
        .collect();
    let patterns = |twin: &Registration| -> Vec<_> {
        let row = |row: &crate::twin::Pattern| {
            let (pattern, behaviour, help) = (row.tokens, row.behaviour, row.help);
            json!({"pattern": pattern, "behaviour": behaviour, "code": row.code, "help": help})
        };
        twin.patterns.iter().map(row).collect()
    };
    let twins: serde_json::Map<_, _> = crate::registrations()
        .iter()
        .map(|twin| (twin.id.to_owned(), json!({"patterns": patterns(twin), "codes": twin.codes})))
        .collect();
    let ids: Vec<_> = crate::registrations().iter().map(|twin| twin.id).collect();
    json!({"providers": ids, "behaviours": behaviours, "twins": twins})
}

fn as_text() -> String {
    let ids: Vec<_> = crate::registrations().iter().map(|twin| twin.id).collect();
    let mut text =
        format!("The vendors and the phones, played on this machine. Played now: {}.\n\n", ids.join(", "));
    text.push_str(HELP);
    for (method, path, help) in crate::registrations().iter().flat_map(|twin| twin.help) {
        let _ = writeln!(text, "  {method:<6} {path:<48} {help}");
    }
    text.push_str("\nBehaviours that a rule may name:\n");
    for (behaviour, _, help) in BEHAVIOURS {
        let name = serde_json::to_value(behaviour).unwrap_or_default();
        let _ = writeln!(text, "  {:<18}{help}", name.as_str().unwrap_or_default());
    }
    for twin in crate::registrations() {
        let _ = writeln!(text, "\n{}: tokens of this form behave so, unless a rule says otherwise:", twin.id);
        for row in twin.patterns {
            let _ = writeln!(text, "  {:<20}{}", row.tokens, row.help);
        }
        if !twin.codes.is_empty() {
            let codes: Vec<_> = twin.codes.iter().map(|(code, _)| *code).collect();
            let _ = writeln!(text, "  codes for answer and fails: {}", codes.join(", "));
        }
    }
    text
}

const HELP: &str = "\
  GET    /_sandbox/rules                           PUT a list of {provider, pattern, behaviour, code?, delay_ms?, times?, retry_after_seconds?}
  GET    /_sandbox/providers                       PUT /_sandbox/providers/{provider}
                                                   {latency_ms, outage: none|http_503|refuse|hang, credentials: ok|refused,
                                                    access_token_seconds, quota: {account_per_minute, target_per_minute},
                                                    receipts: {on, late_ms, duplicate, out_of_order, before_answer, forged}}
  PUT    /_sandbox/providers/{provider}/callback   {\"url\": \"...\"}: enters it in the vendor's console
  GET    /_sandbox/requests?after=&limit=&token=&message=   DELETE forgets all
  GET    /_sandbox/summary?message=
  GET    /_sandbox/samples                         per vendor: a channel's configuration that works here, and phones
  GET    /_sandbox/tokens/{provider}?from=&count=  tokens that this vendor takes
  GET    /_sandbox/ca.pem                          the authority that signed the sandbox's own certificate
  GET    /_sandbox/recording                       PUT {\"on\": true}
  GET    /_sandbox/phones                          GET, PUT, DELETE /_sandbox/phones/{id}
  POST   /_sandbox/phones/{id}/tap                 {\"message_id\": \"...\"}
";
