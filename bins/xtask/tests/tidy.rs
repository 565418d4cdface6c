//! The crate graph is what the design says, and files keep their shape.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Which crates of the workspace a library may use. Programs, examples and measurements may use all.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("orch-core", &[]),
    ("orch-stream", &[]),
    ("orch-store", &["orch-core"]),
    ("orch-sched", &["orch-core"]),
    ("orch-controllers", &["orch-core"]),
    ("orch-runtime", &["orch-core", "orch-stream"]),
    ("orch-oci", &["orch-core", "orch-runtime"]),
    ("orch-net", &["orch-core"]),
    ("orch-kinds", &["orch-core"]),
    ("orch-openapi", &["orch-core", "orch-kinds"]),
    (
        "orch-api",
        &[
            "orch-core",
            "orch-store",
            "orch-kinds",
            "orch-openapi",
            "orch-stream",
        ],
    ),
];

/// Longest file, tests apart.
const LINES_MAX: usize = 650;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

#[test]
fn libraries_know_only_whom_they_may() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    for (name, allowed) in ALLOWED {
        let package = packages
            .iter()
            .find(|p| p["name"] == name)
            .unwrap_or_else(|| panic!("no crate {name}"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let for_tests = dependency["kind"] == "dev";
            let known = !names.contains(used) || allowed.contains(&used) || for_tests;
            assert!(known, "{name} must not use {used}");
        }
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn files_say_what_they_are_and_stay_small() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    assert!(files.len() > 100);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let shown = file.display();
        let tests = file
            .components()
            .any(|c| matches!(c.as_os_str().to_str(), Some("tests" | "tests.rs")));
        assert!(
            tests || text.starts_with("//!"),
            "{shown} does not begin with its purpose"
        );
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = code.lines().count();
        assert!(
            tests || lines <= LINES_MAX,
            "{shown} has {lines} lines, more than {LINES_MAX}"
        );
        let may =
            file.starts_with(root().join("orch-runtime")) || file.starts_with(root().join("bins/orch/demo"));
        let marker = ["unsafe ", "{"].concat();
        assert!(
            may || tests || !code.contains(&marker),
            "{shown} uses unsafe code"
        );
    }
}
