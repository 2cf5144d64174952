//! Raw vendor fields of a message: what may be set.

use serde_json::Value;

/// Fields of `android`. Neither what names a target or the message's data, nor the category (quotas hang on it: name it
/// in a category), nor what receipts hang on.
const ANDROID: [&str; 4] = ["collapse_key", "fast_app_target", "notification", "urgency"];

/// Fields of `android.notification` (reference "AndroidNotification"). Title and text are the message's.
const NOTIFICATION: [&str; 34] = [
    "auto_cancel",
    "auto_clear",
    "badge",
    "big_body",
    "big_title",
    "body_loc_args",
    "body_loc_key",
    "buttons",
    "channel_id",
    "click_action",
    "color",
    "default_sound",
    "foreground_show",
    "group",
    "icon",
    "image",
    "importance",
    "inbox_content",
    "light_settings",
    "multi_lang_key",
    "notify_id",
    "notify_summary",
    "profile_id",
    "sound",
    "style",
    "tag",
    "ticker",
    "title_loc_args",
    "title_loc_key",
    "use_default_light",
    "use_default_vibrate",
    "vibrate_config",
    "visibility",
    "when",
];

/// Refuses what is not on the list, by its name.
pub(super) fn check(overrides: &Value) -> Result<(), String> {
    let blocks = overrides.as_object().ok_or("huawei must be an object")?;
    for (name, block) in blocks {
        match name.as_str() {
            "android" => check_fields("huawei.android", block, &ANDROID)?,
            "review" if block.is_array() => {}
            "review" => return Err("huawei.review must be an array".to_owned()),
            _ => return Err(format!("huawei.{name} cannot be set; android and review can")),
        }
        if let Some(notification) = block.get("notification") {
            check_fields("huawei.android.notification", notification, &NOTIFICATION)?;
        }
    }
    Ok(())
}

fn check_fields(at: &str, block: &Value, known: &[&str]) -> Result<(), String> {
    let fields = block.as_object().ok_or_else(|| format!("{at} must be an object"))?;
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("{at}.{name} cannot be set")),
        None => Ok(()),
    }
}
