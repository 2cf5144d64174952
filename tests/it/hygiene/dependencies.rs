//! One stack of TLS, HTTP and runtime: a second copy is a second set of bugs, pools and certificates.

use super::{assert_none, read, root};

/// Packages that the tree has exactly once.
const ONCE: [&str; 7] = ["axum", "h2", "http", "hyper", "reqwest", "rustls", "tokio"];
/// Packages that must not be in the lock file at all.
const NEVER: [&str; 3] = ["native-tls", "openssl-sys", "openssl"];

fn locked() -> Vec<(String, String)> {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let text = |package: &toml::Value, key: &str| package[key].as_str().unwrap().to_owned();
    let packages = lock["package"].as_array().unwrap();
    packages.iter().map(|package| (text(package, "name"), text(package, "version"))).collect()
}

#[test]
fn there_is_one_version_of_each_part_of_the_stack() {
    let locked = locked();
    let findings: Vec<_> = ONCE
        .iter()
        .filter_map(|once| {
            let versions: Vec<_> =
                locked.iter().filter(|(name, _)| name == once).map(|(_, v)| v.as_str()).collect();
            (versions.len() != 1).then(|| format!("{once}: {versions:?}"))
        })
        .collect();
    assert_none(&findings, "choose dependencies that share one version (`cargo tree -d`)");
}

#[test]
fn openssl_is_nowhere() {
    let findings: Vec<_> =
        locked().into_iter().map(|(name, _)| name).filter(|name| NEVER.contains(&name.as_str())).collect();
    assert_none(&findings, "switch the feature off that brings a second TLS library");
}

#[test]
fn ring_is_compiled_nowhere() {
    // It stands in the lock file as somebody's optional dependency: what counts is whether it is switched on.
    let tree = |package: &str| {
        let output = std::process::Command::new(env!("CARGO"))
            .args(["tree", "--offline", "--locked", "--workspace", "--invert", package])
            .current_dir(root())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(tree("aws-lc-rs").contains("rustls"), "cargo tree shows nothing");
    assert_eq!(tree("ring"), "", "aws-lc-rs is the one crypto library");
}
