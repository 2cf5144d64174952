//! Layers, mistakes and remedies of the configuration.

use std::path::Path;

use super::load::{keys, variable_of};
use super::*;

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn every_file_in_config_is_valid() {
    assert_eq!(Settings::defaults().node, 0);
    for name in ["config/default.toml", "config/example.toml", "config/production.toml"] {
        Settings::load(Some(&root(name)), |_| None, &[]).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let other = |key: &str| match key {
        "listen" => "127.0.0.2:1",
        "public_url" => "https://push.example.org",
        "environment" => "test",
        "master_key" => "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "log.level" => "trace",
        "log.format" => "json",
        "node" | "shutdown_seconds" => "7",
        "limits.targets" => "77",
        "limits.json_depth" => "17",
        "device.heartbeat_max_seconds" => "1700",
        "device.heartbeat_grace_seconds" => "31",
        key if key.ends_with("seconds") => "271",
        "webhooks.retention_hours" => "121",
        key if key.starts_with("retention.") => {
            if key.ends_with("messages_days") {
                "29"
            } else {
                "399"
            }
        }
        key if key.ends_with("hours") => "29",
        "limits.body_bytes" => "4096",
        "store.log_alarm_mebibytes" => "257",
        "rate.trusted_proxies" => "10.0.0.0/8, ::1",
        key if key.ends_with("_per_second") => "7",
        "device.origins" => "https://app.example, https://www.example",
        "egress.allow" => "10.0.0.0/8, vendors.internal",
        "egress.allow_http" => "true",
        _ => "elsewhere",
    };
    let shown = |settings: &Settings| {
        format!("{settings:?}{}", settings.key().unwrap_or_default()) // Debug hides the key
    };
    let before = shown(&Settings::defaults());
    for key in keys(&toml::from_str(DEFAULT).unwrap()) {
        let name = variable_of(&key);
        let set = Settings::load(None, |n| (n == name).then(|| other(&key).into()), &[]);
        assert_ne!(shown(&set.unwrap_or_else(|e| panic!("{name}: {e}"))), before, "{name} changes nothing");
    }
}

#[test]
fn all_mistakes_come_at_once_each_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("own.toml");
    std::fs::write(&path, "lisen = 'x'\nnode = 'three'\n[log]\ncolour = true\n[nowhere]\na = 1\n").unwrap();
    let wrong = Settings::load(Some(&path), |_| None, &[]).unwrap_err();
    let keys: Vec<_> = wrong.0.iter().map(|m| m.key.as_str()).collect();
    assert_eq!(keys, ["lisen", "log.colour", "node", "nowhere"]);

    let wrong = Settings::load(
        None,
        |name| match name {
            "ANYPUSH_LISTEN" => Some("nowhere".into()),
            "ANYPUSH_NODE" => Some("300".into()),
            "ANYPUSH_LOG_FORMAT" => Some("xml".into()),
            "ANYPUSH_LIMITS_TARGETS" => Some("many".into()),
            "ANYPUSH_DATA_DIR" => Some(String::new()),
            _ => None,
        },
        &[],
    );
    assert_eq!(wrong.unwrap_err().0.len(), 5);

    let given = [("limits.targets", "0".to_owned()), ("public_url", "push.example.com/".into())];
    assert_eq!(Settings::load(None, |_| None, &given).unwrap_err().0.len(), 2);
}

#[test]
fn no_event_is_forgotten_before_its_endpoint_is_disabled() {
    let wrong = Settings::load(None, |_| None, &[("webhooks.retention_hours", "119".into())]).unwrap_err();
    assert_eq!(wrong.0[0].key, "webhooks.retention_hours");
    assert!(wrong.0[0].remedy.contains("from 120"), "{wrong}");
}

#[test]
fn counters_outlive_what_they_count_and_messages_the_events_that_tell_of_them() {
    let mistake = |key: &str, value: &str| {
        Settings::load(None, |_| None, &[(key, value.to_owned())]).unwrap_err().0.remove(0)
    };
    let short = mistake("retention.messages_days", "6");
    assert!(short.remedy.contains("from 7 to"), "{short:?}");
    let short = mistake("retention.reports_days", "148");
    assert!(short.remedy.contains("from 149 to"), "{short:?}");
    assert_eq!(mistake("retention.messages_days", "282").key, "retention.reports_days");
    assert_eq!(mistake("retention.audit_days", "29").key, "retention.audit_days");
    Settings::load(None, |_| None, &[("retention.audit_days", "0".into())]).unwrap();
}

#[test]
fn only_networks_are_trusted_as_proxies() {
    let given = [("rate.trusted_proxies", "10.0.0.0/8, ::1, proxy.internal, 10.0.0.0/33".to_owned())];
    let wrong = Settings::load(None, |_| None, &given).unwrap_err();
    let named: Vec<_> = wrong.0.iter().map(|mistake| mistake.value.as_str()).collect();
    assert_eq!(named, ["proxy.internal", "10.0.0.0/33"]);
}

#[test]
fn a_wrong_master_key_is_not_shown() {
    let wrong = Settings::load(None, |n| (n == "ANYPUSH_MASTER_KEY").then(|| "c2VjcmV0".into()), &[]);
    let text = wrong.unwrap_err().to_string();
    assert!(text.contains("master_key") && !text.contains("c2VjcmV0"), "{text}");
}
