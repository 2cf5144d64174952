//! What the pages say that tests prove: the tests are there.

use super::{assert_none, read, rust_files};

#[test]
fn every_test_that_the_page_of_attack_cases_names_is_there() {
    let code: String = rust_files(&["src", "providers", "tests"]).iter().map(read).collect();
    let page = read("docs/security.md");
    let rows = page.lines().filter(|line| line.starts_with("| A"));
    let quoted = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let names = quoted.filter_map(|text| text.rsplit("::").next());
    let is_sentence = |name: &&str| name.matches('_').count() >= 3 && !name.contains(['/', '.', '-']);
    let names: Vec<_> = names.filter(is_sentence).collect();
    assert!(names.len() > 50, "{} tests are named: is the table still read?", names.len());
    let missing = names.iter().filter(|name| !code.contains(&format!("fn {name}(")));
    let missing: Vec<_> = missing.map(|name| (*name).to_owned()).collect();
    assert_none(&missing, "name the tests of docs/security.md as they are called");
}
