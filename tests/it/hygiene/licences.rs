//! Nothing in the binary asks more than attribution.

use super::{assert_none, metadata};

const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Zlib",
];

#[test]
fn every_licence_is_on_the_list() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let findings: Vec<_> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_allowed))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    assert_none(&findings, "leave the package out, or add its licence here and in deny.toml");
}

/// Evaluates an SPDX expression: `OR` is our choice, `AND` binds us to both sides.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (allowed, rest) = alternatives(&words);
    allowed && rest.is_empty()
}

fn alternatives<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut allowed, mut rest) = conjunction(words);
    while let Some((&"OR", next)) = rest.split_first() {
        let (other, after) = conjunction(next);
        (allowed, rest) = (allowed | other, after);
    }
    (allowed, rest)
}

fn conjunction<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut allowed, mut rest) = licence(words);
    while let Some((&"AND", next)) = rest.split_first() {
        let (other, after) = licence(next);
        (allowed, rest) = (allowed & other, after);
    }
    (allowed, rest)
}

fn licence<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => {
            let (allowed, rest) = alternatives(inner);
            (allowed, rest.split_first().map_or(rest, |(_, rest)| rest))
        }
        [name, "WITH", exception, rest @ ..] => {
            (ALLOWED.contains(&format!("{name} WITH {exception}").as_str()), rest)
        }
        [name, rest @ ..] => (ALLOWED.contains(name), rest),
        [] => (false, words),
    }
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    for allowed in
        ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "ISC AND (GPL-3.0 OR MIT)", "(MIT OR X) AND ISC"]
    {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["GPL-3.0", "GPL-3.0 AND MIT", "ISC AND (GPL-3.0 OR X)", "", "MIT WITH exception"] {
        assert!(!is_allowed(refused), "{refused}");
    }
}
