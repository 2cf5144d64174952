//! The file and the router say the same.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use anypush_providers::contract::Reason;
use serde_json::{Value, json};

use crate::api::auth::{Access, SCOPES};
use crate::api::ops::OPENAPI;
use crate::api::routes;
use crate::delivery::state::State;
use crate::events::EventKind;

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// The file, read.
fn file() -> &'static Value {
    static FILE: LazyLock<Value> = LazyLock::new(|| serde_saphyr::from_str(OPENAPI).unwrap());
    &FILE
}

/// Every operation: (method, path, operation).
fn operations(file: &Value) -> Vec<(String, String, Value)> {
    let paths = file["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| -> Vec<_> {
        let operation = |method: &&str| item.get(*method).cloned();
        METHODS.iter().filter_map(|m| Some((m.to_uppercase(), path.clone(), operation(m)?))).collect()
    };
    paths.iter().flat_map(of).collect()
}

/// What is wrong with a value under a schema of the file; empty = nothing.
fn mistakes(file: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let whole = json!({"allOf": [schema], "components": file["components"]});
    let validator = jsonschema::validator_for(&whole).unwrap();
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Checks an answer of a call against the file.
pub(super) fn check(method: &str, path: &str, status: u16, answer: &Value) {
    let file = file();
    let path = path.split('?').next().unwrap_or_default();
    let fits = |pattern: &str| {
        let (a, b): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        a.len() == b.len() && a.iter().zip(&b).all(|(p, s)| p == s || (p.starts_with('{') && !s.is_empty()))
    };
    let Some((.., operation)) = operations(file).into_iter().find(|(m, p, _)| m == method && fits(p)) else {
        return;
    };
    let responses = &operation["responses"];
    let response = responses.get(status.to_string()).or_else(|| responses.get("default"));
    let mut response =
        response.unwrap_or_else(|| panic!("{method} {path}: {status} is not in the file")).clone();
    if let Some(name) = response["$ref"].as_str() {
        response = file.pointer(name.trim_start_matches('#')).unwrap().clone();
    }
    let content = &response["content"];
    let schema = content.get("application/json").or_else(|| content.get("application/problem+json"));
    if let Some(schema) = schema {
        let wrong = mistakes(file, &schema["schema"], answer);
        assert!(wrong.is_empty(), "{method} {path} {status}: {wrong:#?}\n{answer:#}");
    }
}

#[test]
fn the_routers_routes_are_the_files_paths() {
    let file = file();
    let told: BTreeSet<_> = operations(file).into_iter().map(|(m, p, _)| (m, p)).collect();
    let phones = |(_, path): &&(String, String)| path == "/v1/device" || path.starts_with("/v1/device/");
    let ours: BTreeSet<_> = routes().iter().map(|r| (r.method.to_string(), r.path.to_owned())).collect();
    let without_phones: BTreeSet<_> = told.iter().filter(|o| !phones(o)).cloned().collect();
    assert_eq!(ours, without_phones);
    assert_eq!(ours.len(), routes().len(), "a route stands twice in the table");
}

#[tokio::test]
async fn the_phones_paths_are_served() {
    let world = super::World::new().await;
    for (method, path, _) in operations(file()) {
        let answer = world.call(&method, &path, "", None).await.told();
        assert!(!["no_such_path", "method_not_allowed"].contains(&answer.1.as_str()), "{method} {path}");
    }
}

#[test]
fn the_file_says_who_may_call() {
    let file = file();
    for route in routes() {
        let operation = &file["paths"][route.path][route.method.as_str().to_lowercase()];
        let text = operation["description"].as_str().unwrap_or_default();
        match route.access {
            Access::Public => assert_eq!(operation["security"], json!([]), "{route:?}"),
            Access::Admin => assert!(text.contains("Admin keys"), "{route:?}"),
            Access::Member => assert!(text.contains("Any key") || text.contains("app's own"), "{route:?}"),
            Access::Scope(scope) => assert!(text.contains(&format!("`{scope}`")), "{route:?}"),
        }
    }
}

#[test]
fn closed_lists_are_whole() {
    let file = file();
    let listed = |name: &str| -> BTreeSet<String> {
        let words = file["components"]["schemas"][name]["enum"].as_array().unwrap();
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(listed("Reason"), set(&Reason::ALL.map(Reason::as_str)));
    assert_eq!(listed("State"), set(&State::ALL.map(State::as_str)));
    assert_eq!(listed("Scope"), set(&SCOPES));
    assert_eq!(listed("EventType"), set(&EventKind::ALL.map(EventKind::as_str)));
}

/// Reads the code for words in the places where problems are made.
#[test]
fn every_code_in_the_source_is_in_the_file() {
    let file = file();
    let listed = file["components"]["schemas"]["Code"]["enum"].as_array().unwrap();
    let mut found = BTreeSet::new();
    for room in ["src/api", "src/direct"] {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(room);
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    found.extend(codes(&std::fs::read_to_string(path).unwrap()));
                }
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    let missing: Vec<_> = found.iter().filter(|code| !listed.contains(&json!(code))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The first word-like literal behind each constructor of problems.
fn codes(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    for maker in ["Problem::new(", "Self::new(", "bad_request(", "refused(", ".code(", "code: "] {
        for (at, _) in source.match_indices(maker) {
            let call = &source[at + maker.len()..];
            let call = &call[..call.len().min(160)];
            let Some(literal) = call.split('"').nth(1).filter(|_| !call.starts_with(')')) else { continue };
            if maker == "code: " && !call.starts_with('"') {
                continue;
            }
            let statement = call.split('"').next().unwrap_or_default();
            let word = literal.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && literal.len() > 3;
            if word && !statement.contains(';') && !statement.contains('{') {
                found.push(literal.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_example_fits_its_schema() {
    let file = file();
    let mut seen = 0;
    for (method, path, operation) in operations(file) {
        let body = &operation["requestBody"]["content"]["application/json"];
        for (name, example) in body["examples"].as_object().into_iter().flatten() {
            let wrong = mistakes(file, &body["schema"], &example["value"]);
            assert!(wrong.is_empty(), "{method} {path} {name}: {wrong:#?}");
            seen += 1;
        }
    }
    assert!(seen >= 8);
}
