//! The folders: sizes, twins, and names that stay where they belong.

use std::collections::BTreeSet;
use std::path::Path;

use anypush_providers::catalogue;

use super::{assert_none, files, read, root, rust_files};

const ROOMS: [&str; 5] = ["src", "providers", "sandbox", "tests", "benches"];
/// Longest file; aim at 150, think at 400.
const MAX_LINES: usize = 600;
/// Folders of `providers/` that are no vendor.
const SHARED: [&str; 3] = ["contract", "kit", "target"];

#[test]
fn no_file_is_longer_than_a_person_reads() {
    let findings: Vec<_> = rust_files(&ROOMS)
        .iter()
        .map(|path| (path, read(path).lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert_none(&findings, "split by what changes together");
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    let findings: Vec<_> = rust_files(&ROOMS)
        .iter()
        .filter(|path| !read(path).starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert_none(&findings, "begin with `//!` and a sentence");
}

#[test]
fn provider_folders_catalogue_and_sandbox_twins_are_the_same_list() {
    let listed: BTreeSet<String> = catalogue().iter().map(|r| r.descriptor.id.to_owned()).collect();
    let folders: BTreeSet<String> = std::fs::read_dir(root().join("providers"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .filter(|name| !SHARED.contains(&name.as_str()))
        .collect();
    assert_eq!(folders, listed, "folders of providers/ and the list in providers/lib.rs differ");
    let lonely: Vec<_> = listed
        .iter()
        .filter(|id| {
            let twin = root().join("sandbox").join(id);
            !twin.is_dir() && !twin.with_extension("rs").is_file()
        })
        .map(|id| format!("sandbox/{id}"))
        .collect();
    assert_none(&lonely, "write the vendor's counterpart");
}

#[test]
fn providers_are_listed_in_alphabetical_order() {
    let ids: Vec<_> = catalogue().iter().map(|r| r.descriptor.id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
}

#[test]
fn the_gateway_names_no_vendor() {
    let mut findings = Vec::new();
    for path in files(&["src"]) {
        // Unit tests, and the suite that every store must pass, need some vendor as an example.
        if path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "conformance") {
            continue;
        }
        let text = std::fs::read(root().join(&path)).unwrap();
        let text = String::from_utf8_lossy(&text);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for id in catalogue().iter().map(|r| r.descriptor.id) {
            for quote in ['"', '\''] {
                if code.contains(&format!("{quote}{id}{quote}")) {
                    findings.push(format!("{}: {quote}{id}{quote}", path.display()));
                }
            }
        }
    }
    assert_none(&findings, "take it from the descriptor; if it is not there, mend the contract");
}

#[test]
fn sql_is_constant_or_built_by_the_query_builder() {
    let findings: Vec<_> = rust_files(&["src"])
        .iter()
        .filter(|path| read(path).contains("AssertSqlSafe"))
        .map(|path| path.display().to_string())
        .collect();
    assert_none(&findings, "text that became SQL is an injection waiting");
}

#[test]
fn every_integration_test_file_is_in_the_binary() {
    let main = read("tests/it/main.rs");
    let findings: Vec<_> = std::fs::read_dir(root().join("tests/it"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| path.file_stem().map(|name| name.to_string_lossy().into_owned()))
        .filter(|name| name != "main" && !main.contains(&format!("mod {name};")))
        .collect();
    assert_none(&findings, "add `mod …;` to tests/it/main.rs");
}

#[test]
fn points_to_die_at_are_in_no_release_and_each_has_its_test() {
    let text = read("src/failpoint.rs");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let guarded = |at: usize| lines[at.saturating_sub(2)..at].contains(&"#[cfg(debug_assertions)]");
    let is_code = |line: &str| line.contains("::reach($name)") || line.contains("fn reach(");
    let bare = lines.iter().enumerate().filter(|(at, line)| is_code(line) && !guarded(*at));
    let mut findings: Vec<_> = bare.map(|(_, line)| format!("without debug_assertions: {line}")).collect();
    // Callbacks need a vendor that is played inside.
    let tests = read("tests/it/slow/crash_points.rs")
        + &read("tests/it/slow/purge.rs")
        + &read("tests/it/slow/webhooks.rs")
        + &read("src/receipts/tests/crash.rs")
        + &read("tests/it/rotation.rs");
    for path in rust_files(&["src"]).iter().filter(|path| !path.ends_with("failpoint.rs")) {
        for point in read(path).split("failpoint!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            if !tests.contains(&format!("\"{point}\"")) {
                findings.push(format!("{}: {point} has no test", path.display()));
            }
        }
    }
    assert_none(
        &findings,
        "keep the macro behind debug_assertions, and add the point to crash_points.rs (receipts: crash.rs, webhooks: webhooks.rs)",
    );
}

/// Package clients note where they fetched a file from; on another network that address does not answer.
#[test]
fn lock_files_of_foreign_clients_carry_no_addresses() {
    let is_lock = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "package-lock.json" || name.starts_with("requirements") || name.ends_with(".lock.txt")
    };
    let findings: Vec<_> = files(&["tests"])
        .into_iter()
        .filter(|path| is_lock(path))
        .flat_map(|path| {
            let text = read(&path);
            // npm also notes where a package asks for donations: prose, nothing is fetched from there.
            let addresses = text
                .lines()
                .filter(|line| line.contains("://") && !line.trim_start().starts_with("\"url\":"))
                .map(|line| format!("{}: {}", path.display(), line.trim()));
            addresses.collect::<Vec<_>>()
        })
        .collect();
    assert_none(
        &findings,
        "write the lock file anew without addresses (npm: omit-lockfile-registry-resolved)",
    );
}
