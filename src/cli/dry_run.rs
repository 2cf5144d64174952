//! A dry run as tables for the terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::table;

/// What the gateway answered, for people. Results of `write!` are dropped: writing into a `String` cannot fail.
pub(super) fn text(run: &Value) -> String {
    let n = |value: &Value| value.as_u64().unwrap_or_default();
    let all = if run["complete"] == true { "" } else { " (the first of them; the audience is larger)" };
    let (targeted, suppressed) = (n(&run["targeted"]), n(&run["suppressed"]));
    let mut out = format!(
        "{targeted} target{}{all}: {} would be sent to, {suppressed} would not\n\n",
        if targeted == 1 { "" } else { "s" },
        targeted - suppressed.min(targeted)
    );
    let mut ways = table(&["targets", "way"]);
    for way in list(&run["ways"]) {
        ways.add_row([n(&way["targets"]).to_string(), word(&way["text"])]);
    }
    let _ = writeln!(out, "{ways}");
    let mut channels = table(&["channel", "first", "any", "bytes", "class", "costs", "notes"]);
    for channel in list(&run["channels"]) {
        let preview = &channel["preview"];
        let bytes = match (preview["bytes"].as_u64(), preview["max_bytes"].as_u64()) {
            (Some(bytes), Some(most)) => format!("{bytes} of {most}"),
            (Some(bytes), None) => bytes.to_string(),
            (None, _) => "?".to_owned(),
        };
        let mut costs =
            format!("{} {}", word(&preview["cost"]["amount"]), word(&preview["cost"]["currency"]));
        if let Some(segments) = preview["segments"].as_u64() {
            let _ = write!(costs, " ({segments} segments)");
        }
        channels.add_row([
            word(&channel["channel"]),
            n(&channel["targets_first"]).to_string(),
            n(&channel["targets_any"]).to_string(),
            bytes,
            word(&preview["class"]),
            costs.trim().to_owned(),
            notes(channel),
        ]);
    }
    let _ = writeln!(out, "{channels}");
    for cost in list(&run["cost"]) {
        let (expected, most) = (word(&cost["expected"]), word(&cost["at_most"]));
        let _ = writeln!(out, "costs {expected} {}, at most {most}", word(&cost["currency"]));
    }
    for warning in list(&run["warnings"]) {
        let _ = writeln!(out, "warning: {}", word(warning));
    }
    out.push_str("Nothing was stored or sent.");
    out
}

/// What a person should read about a channel, a line each.
fn notes(channel: &Value) -> String {
    let preview = &channel["preview"];
    let mut notes = Vec::new();
    if preview["refused"].is_object() {
        notes.push(format!(
            "{}: {}",
            word(&preview["refused"]["reason"]),
            word(&preview["refused"]["words"])
        ));
    }
    let lacks: Vec<_> = list(&channel["lacks"]).map(word).collect();
    if !lacks.is_empty() {
        notes.push(format!("cannot show {}", lacks.join(", ")));
    }
    let dropped = |dropped: &Value| format!("{} {}", word(&dropped["field"]), word(&dropped["why"]));
    notes.extend(list(&preview["dropped"]).map(dropped));
    notes.extend(list(&preview["warnings"]).map(word));
    for quota in list(&channel["quotas"]) {
        let n = |name: &str| quota[name].as_u64();
        let name = word(&quota["name"]);
        if let (Some(used), Some(limit), Some(more)) = (n("used"), n("limit"), n("would_use")) {
            notes.push(format!("quota {name}: {used} of {limit} used, {more} more"));
        } else if let Some(limit) = n("limit") {
            notes.push(format!("quota {name}: {limit} for each device"));
        }
    }
    notes.join("\n")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dry_run_reads_as_tables_with_what_is_refused_and_dropped() {
        let run = json!({
            "targeted": 3, "complete": true, "suppressed": 1,
            "ways": [{"targets": 2, "text": "Will be sent through fcm."}],
            "channels": [{
                "channel": "fcm", "targets_first": 2, "targets_any": 2, "lacks": ["actions"],
                "preview": {
                    "bytes": 5000, "max_bytes": 4096, "warnings": ["mind"], "segments": 2,
                    "cost": {"amount": "0.10", "currency": "EUR"},
                    "dropped": [{"field": "/label", "why": "left out"}],
                    "refused": {"reason": "payload_too_large", "words": "not sent"},
                },
            }],
            "cost": [{"currency": "EUR", "expected": "0.20", "at_most": "0.40"}],
            "warnings": ["the classes differ"],
        });
        let text = text(&run);
        for part in [
            "3 targets: 2 would be sent to, 1 would not",
            "Will be sent through fcm.",
            "5000 of 4096",
            "payload_too_large: not sent",
            "cannot show actions",
            "/label left out",
            "0.10 EUR (2 segments)",
            "costs 0.20 EUR, at most 0.40",
            "warning: the classes differ",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
