//! Raw vendor fields of a message: what may be set.

use serde_json::Value;

use super::category::INTENTS;

/// Fields that a message may set, and what they may say; empty: anything. Not among them: who sends, whom it goes to,
/// where it is reported to, how long it waits.
const FIELDS: [(&str, &[&str]); 5] = [
    ("AddressRetention", &["retain", "obfuscate"]),
    ("ContentRetention", &["retain", "discard"]),
    ("MessageIntent", &INTENTS),
    ("RiskCheck", &["enable", "disable"]),
    ("SmartEncoded", &["true", "false"]),
];

/// Refuses what is not on the list, by its name.
pub(super) fn check(overrides: &Value) -> Result<(), String> {
    let fields = overrides.as_object().ok_or("sms_twilio must be an object")?;
    for (name, value) in fields {
        let known = FIELDS.iter().find(|(known, _)| known == name);
        let Some((_, values)) = known else {
            let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
            return Err(format!("sms_twilio.{name} cannot be set; {} can", names.join(", ")));
        };
        if !value.as_str().is_some_and(|value| values.contains(&value)) {
            return Err(format!("sms_twilio.{name} must be one of {}", values.join(", ")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_names_a_sender_a_recipient_or_a_price_is_refused_by_name() {
        for name in [
            "To",
            "From",
            "MessagingServiceSid",
            "StatusCallback",
            "Body",
            "ValidityPeriod",
            "MaxPrice",
            "SendAt",
        ] {
            let error = check(&json!({name: "x"})).unwrap_err();
            assert!(error.starts_with(&format!("sms_twilio.{name} ")), "{error}");
        }
        for wrong in [json!({"RiskCheck": "off"}), json!({"RiskCheck": true}), json!([]), json!("x")] {
            assert!(check(&wrong).unwrap_err().starts_with("sms_twilio"), "{wrong}");
        }
        assert_eq!(
            check(&json!({"RiskCheck": "disable", "SmartEncoded": "true", "MessageIntent": "otp"})),
            Ok(())
        );
    }
}
