//! Holds every request that the gateway takes and every answer that it gives against `openapi.yaml`, and notes
//! which operations were called: at the end `tests/openapi_coverage.py` fails for those that nobody did.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::{Draft, Validator};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::{Value, json};

pub(crate) static FILE: LazyLock<Value> = LazyLock::new(|| {
    serde_saphyr::from_str(include_str!("../../openapi.yaml")).expect("openapi.yaml is YAML")
});
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Lines of JSON: read as a list of them.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// One call, as the test saw it.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) sent: Option<&'a Value>,
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Value,
}

/// Fails where the file does not describe this answer, or forbids the body that was answered with success.
pub(crate) fn check(call: &Call<'_>) {
    let Call { method, path, status, headers, body, .. } = *call;
    assert!(headers.contains_key("Request-Id"), "{method} {path}: every answer carries Request-Id");
    let path = path.split('?').next().unwrap_or(path);
    let Some(template) = template(path) else {
        assert_eq!(status, 404, "{method} {path} is not in openapi.yaml");
        return;
    };
    let verb = method.as_str().to_lowercase();
    let operation = &FILE["paths"][&template][&verb];
    if operation.is_null() {
        assert_eq!(status, 405, "{method} {template} is not in openapi.yaml");
        return;
    }
    note(&format!("{verb} {template}"));
    if let Some(sent) = call.sent.filter(|_| (200..300).contains(&status)) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert!(!schema.is_null(), "{method} {template} took a body that openapi.yaml does not describe");
        fits(&format!("{verb} {template} request"), schema, sent);
    }
    let mut answer = &operation["responses"][status.to_string()];
    if answer.is_null() {
        answer = &operation["responses"]["default"];
    }
    assert!(!answer.is_null(), "{method} {template}: openapi.yaml has no answer {status}: {body:#}");
    let answer = resolve(answer);
    let Some(content) = answer["content"].as_object() else { return };
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = given.split(';').next().unwrap_or_default().trim();
    let described =
        content.get(given).unwrap_or_else(|| panic!("{method} {template} {status}: undescribed {given}"));
    if given == NDJSON {
        for line in body.as_array().expect("lines") {
            fits(&format!("{verb} {template} {status}"), &described["schema"], line);
        }
    } else if given.ends_with("json") {
        fits(&format!("{verb} {template} {status}"), &described["schema"], body);
    }
}

fn fits(key: &str, schema: &Value, value: &Value) {
    let errors: Vec<_> = validator(key, schema).iter_errors(value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{key}: {errors:#?}\n{value:#}");
}

/// The path of the file that fits, fixed segments before variable ones.
fn template(path: &str) -> Option<String> {
    let given: Vec<_> = path.split('/').collect();
    let fits = |template: &&String| {
        let parts: Vec<_> = template.split('/').collect();
        parts.len() == given.len()
            && parts.iter().zip(&given).all(|(part, given)| part.starts_with('{') || part == given)
    };
    let paths = FILE["paths"].as_object().expect("openapi.yaml has paths");
    paths.keys().filter(fits).min_by_key(|template| template.matches('{').count()).cloned()
}

fn resolve(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            FILE.pointer(reference.trim_start_matches('#')).expect("a reference that leads somewhere")
        }
        None => value,
    }
}

fn validator(key: &str, schema: &Value) -> Arc<Validator> {
    let mut validators = VALIDATORS.lock().unwrap();
    let made = validators.entry(key.to_owned()).or_insert_with(|| {
        // The schema stands in a document of its own, in which `#/components/…` still leads somewhere.
        let whole = json!({"allOf": [schema], "components": FILE["components"]});
        let options = jsonschema::options().with_draft(Draft::Draft202012);
        Arc::new(options.build(&whole).unwrap_or_else(|error| panic!("{key}: {error}")))
    });
    Arc::clone(made)
}

/// Notes a call whose answer has no end, and so is not held against the file.
pub(crate) fn called(method: &Method, path: &str) {
    note(&format!("{} {path}", method.as_str().to_lowercase()));
}

fn note(operation: &str) {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi-calls");
    std::fs::create_dir_all(&dir).unwrap();
    let file =
        std::fs::OpenOptions::new().create(true).append(true).open(dir.join(std::process::id().to_string()));
    writeln!(file.unwrap(), "{operation}").unwrap();
}
