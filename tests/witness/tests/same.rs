//! What we send is what the witness builds.

use anypush_witness::{apns_payloads, fcm_bodies, normalised};
use serde_json::Value;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/witness");

fn assert_same(witnessed: Vec<(&str, Value)>) {
    for (name, theirs) in witnessed {
        let path = format!("{FIXTURES}/{name}.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("reading {path}: {error}"));
        let fixture: Value = serde_json::from_str(&text).expect("a fixture is JSON");
        let ours = normalised(&fixture["sends"]);
        let theirs = normalised(&theirs);
        assert_eq!(
            ours,
            theirs,
            "{name}: ours, then theirs:\n{}\n{}",
            serde_json::to_string_pretty(&ours).unwrap(),
            serde_json::to_string_pretty(&theirs).unwrap()
        );
    }
}

#[test]
fn fcm_v1_builds_the_same_messages() {
    assert_same(fcm_bodies());
}

#[test]
fn a2_builds_the_same_payloads() {
    assert_same(apns_payloads());
}

#[test]
fn every_fixture_has_a_witness() {
    let all = fcm_bodies().into_iter().chain(apns_payloads());
    let witnessed: Vec<_> = all.map(|(name, _)| format!("{name}.json")).collect();
    for entry in std::fs::read_dir(FIXTURES).expect("the fixtures are beside this package") {
        let name = entry.expect("a readable folder").file_name().to_string_lossy().into_owned();
        assert!(witnessed.contains(&name), "nobody builds {name}");
    }
}
