//! Raw vendor fields of a message: what may be set, and how.

use serde_json::Value;

use super::wire::Form;
use crate::kit::failure::Unsendable;

/// Fields beside `extra`. What says whom it goes to (`registration_id`, `restricted_package_name`), when
/// (`time_to_send`) and what the message itself says may not be set.
const FIELDS: [&str; 1] = ["notify_type"];

/// Fields of `extra` (dev.mi.com pId=1559 and the vendor's own client). Neither the channel (quotas hang on it: name it
/// in a category), nor the callback, nor the job key.
const EXTRA: [&str; 37] = [
    "extra.app_version",
    "extra.app_version_not_in",
    "extra.connpt",
    "extra.flow_control",
    "extra.instant_notify",
    "extra.intent_uri",
    "extra.locale",
    "extra.locale_not_in",
    "extra.model",
    "extra.model_not_in",
    "extra.notification_bigPic_uri",
    "extra.notification_large_icon_uri",
    "extra.notification_small_icon_color",
    "extra.notification_small_icon_uri",
    "extra.notification_style_button_left_intent_class",
    "extra.notification_style_button_left_intent_uri",
    "extra.notification_style_button_left_name",
    "extra.notification_style_button_left_notify_effect",
    "extra.notification_style_button_left_web_uri",
    "extra.notification_style_button_mid_intent_class",
    "extra.notification_style_button_mid_intent_uri",
    "extra.notification_style_button_mid_name",
    "extra.notification_style_button_mid_notify_effect",
    "extra.notification_style_button_mid_web_uri",
    "extra.notification_style_button_right_intent_class",
    "extra.notification_style_button_right_intent_uri",
    "extra.notification_style_button_right_name",
    "extra.notification_style_button_right_notify_effect",
    "extra.notification_style_button_right_web_uri",
    "extra.notification_style_type",
    "extra.notify_effect",
    "extra.notify_foreground",
    "extra.only_send_once",
    "extra.sound_uri",
    "extra.template_id",
    "extra.ticker",
    "extra.web_uri",
];

/// Takes the vendor's spelling as an object or its text.
const TEMPLATE_PARAM: &str = "extra.template_param";

/// Refuses what is not on the list, by its name.
pub(super) fn check(overrides: &Value) -> Result<(), String> {
    apply(overrides, &mut Form::default()).map_err(|unsendable| unsendable.why)
}

/// Lays the overrides over a form.
pub(super) fn apply(overrides: &Value, form: &mut Form) -> Result<(), Unsendable> {
    let fields = overrides.as_object().ok_or_else(|| Unsendable::invalid("xiaomi must be an object"))?;
    for (name, value) in fields {
        if name == "extra" {
            let extra =
                value.as_object().ok_or_else(|| Unsendable::invalid("xiaomi.extra must be an object"))?;
            for (name, value) in extra {
                apply_extra(name, value, form)?;
            }
            continue;
        }
        let Some(known) = FIELDS.into_iter().find(|known| known == name) else {
            return Err(refused(name));
        };
        form.set(known, text(name, value)?);
    }
    Ok(())
}

fn apply_extra(name: &str, value: &Value, form: &mut Form) -> Result<(), Unsendable> {
    let full = format!("extra.{name}");
    if full == TEMPLATE_PARAM {
        let text = match value {
            Value::Object(_) => value.to_string(),
            _ => text(&full, value)?,
        };
        form.set(TEMPLATE_PARAM, text);
        return Ok(());
    }
    let Some(known) = EXTRA.into_iter().find(|known| *known == full) else { return Err(refused(&full)) };
    form.set(known, text(&full, value)?);
    Ok(())
}

fn refused(name: &str) -> Unsendable {
    Unsendable::invalid(format!("xiaomi.{name} cannot be set"))
}

/// Forms know texts only.
fn text(name: &str, value: &Value) -> Result<String, Unsendable> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Unsendable::invalid(format!("xiaomi.{name} must be a string or a number"))),
    }
}
