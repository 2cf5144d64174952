//! Are the credentials good, without sending to anybody: asks for the day's counters of the package.

use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::wire::{COUNTERS_PATH, Reply};
use super::{Xiaomi, codes};
use crate::contract::{CheckReport, Reason, SendContext};
use crate::kit::http as kit_http;
use crate::kit::retry_after::retry_after;
use crate::kit::{echo, json};

/// Tries the credentials and says what to mend.
pub(super) async fn check(channel: &Xiaomi, context: &SendContext) -> CheckReport {
    let _pass = match context.gate.pass(1).await {
        Ok(pass) => pass,
        Err(reason) => return report(channel, Some(reason), "the channel is stopped".to_owned()),
    };
    let config = &channel.config;
    let now = (context.now)();
    let today = today(now);
    let package = config.package_name.as_str();
    let query =
        [("start_date", today.as_str()), ("end_date", today.as_str()), ("restricted_package_name", package)];
    let region = config.region.name();
    let answer = match kit_http::send(channel.get(config.region, COUNTERS_PATH, &query)).await {
        Ok(answer) => answer,
        Err(error) => {
            let reason = error.to_failure().reason;
            return report(channel, Some(reason), format!("{}: {error}", remedy(reason)));
        }
    };
    let reply = json::object::<Reply>(answer.body()).unwrap_or_default();
    let status = answer.status().as_u16();
    if status == 200 && reply.is_ok() {
        return report(channel, None, format!("region {region} takes this secret for {package}"));
    }
    let code = reply.code().filter(|code| *code != 0);
    let reason = codes::failure(status, code, &reply, 1, retry_after(answer.headers(), now)).reason;
    let said = echo::words(reply.words(), &[config.secret.expose()]).unwrap_or_default();
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    let detail = format!("{}; region {region} answered: HTTP {status}{code} {said}", remedy(reason));
    report(channel, Some(reason), detail.trim_end().to_owned())
}

/// The vendor's day, as it writes it.
fn today(now: SystemTime) -> String {
    let now = Timestamp::try_from(now).unwrap_or_default();
    // China has one zone and no summer time.
    let shanghai = TimeZone::fixed(jiff::tz::offset(8));
    now.to_zoned(shanghai).strftime("%Y%m%d").to_string()
}

fn report(channel: &Xiaomi, reason: Option<Reason>, detail: String) -> CheckReport {
    let config = &channel.config;
    let mut warnings = Vec::new();
    if config.public_channel_id.is_none() {
        warnings.push("no public channel: marketing needs a category that names one".to_owned());
    }
    if config.private_channel_id.is_none() {
        warnings.push(
            "no private channel: transactional messages go through the public one and count towards five a day"
                .to_owned(),
        );
    }
    CheckReport { ok: reason.is_none(), detail, reason, warnings }
}

fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::AuthFailed => {
            "refused: see that it is the AppSecret (neither AppID nor AppKey), that it was not reset, and that the \
             package name is the app's"
        }
        Reason::VendorUnavailable => "not reached: see the base URL and the way out of this network",
        Reason::RateLimited => "not checked: too many requests at the moment",
        _ => "not checked: an answer that was not expected",
    }
}
