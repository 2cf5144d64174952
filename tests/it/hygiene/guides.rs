//! Guides keep up with what there is: whoever adds something says where a person reads of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{assert_none, files, read, rust_files};

/// All that people read about using the gateway.
fn guides() -> String {
    let pages =
        files(&["docs", "providers"]).into_iter().filter(|path| path.extension().is_some_and(|e| e == "md"));
    let decisions = Path::new("docs/decisions");
    let pages = pages.filter(|path| !path.starts_with(decisions)).map(read);
    pages.chain([read("README.md")]).collect()
}

/// The last two parts of a path, where names may be anything: enough to find it in prose such as `…/webhooks/{id}/test`.
fn is_in(guides: &str, path: &str) -> bool {
    let parts: Vec<_> = path.rsplitn(3, '/').take(2).collect();
    let (last, before) = (parts[0], parts.get(1).copied().unwrap_or_default());
    guides.split([' ', '`', '\n', '"', '?', '(', ')']).any(|word| {
        let mut found = word.trim_end_matches(['.', ',', ':', ';']).rsplitn(3, '/');
        let fits = |part: &str, found: Option<&str>| {
            found.is_some_and(|found| part.starts_with('{') || part == found || found.starts_with('{'))
        };
        word.contains('/') && fits(last, found.next()) && fits(before, found.next())
    })
}

#[test]
fn every_operation_is_told_of_in_a_guide() {
    let guides = guides();
    let contract = read("openapi.yaml");
    let paths = contract.lines().filter_map(|line| line.strip_prefix("  /")?.strip_suffix(':'));
    let findings: Vec<_> =
        paths.filter(|path| !is_in(&guides, &format!("/{path}"))).map(str::to_owned).collect();
    assert_none(&findings, "say in docs/ what it is for");
}

#[test]
fn every_change_that_the_audit_log_names_is_in_its_guide_and_every_one_there_is_written() {
    let guide = read("docs/audit.md");
    let row = guide.lines().find(|line| line.starts_with("| `action` |")).expect("the row of actions");
    let listed: BTreeSet<&str> =
        row.split('`').skip(1).step_by(2).filter(|word| word.contains('.')).collect();
    let mut written = BTreeMap::new();
    for path in rust_files(&["src"]) {
        let text = read(&path);
        if path.starts_with("src/store/sqlite") {
            for call in text.split("Audit::new(").skip(1) {
                let action = call.split(';').next().unwrap_or_default().split('"').nth(1).unwrap_or_default();
                written.insert(action.to_owned(), path.clone());
            }
        }
        // Some are named where they are decided, and written elsewhere.
        let is_known = |word: &str| listed.contains(word) || word.starts_with("channel.");
        if !path.starts_with("src/events") && !path.components().any(|part| part.as_os_str() == "tests") {
            let words = text.split('"').filter(|word| is_known(word));
            written.extend(words.map(|word| (word.to_owned(), path.clone())));
        }
    }
    let is_action = |word: &str| word.contains('.') && !word.contains([' ', '{', '\n']);
    let missing = written.iter().filter(|(action, _)| is_action(action) && !listed.contains(action.as_str()));
    let missing: Vec<_> = missing.map(|(action, path)| format!("{}: {action}", path.display())).collect();
    assert_none(&missing, "add it to docs/audit.md");
    let unwritten = listed.iter().filter(|action| !written.contains_key(**action));
    let unwritten: Vec<_> = unwritten.map(|action| (*action).to_owned()).collect();
    assert_none(&unwritten, "docs/audit.md lists what nothing writes");
}
