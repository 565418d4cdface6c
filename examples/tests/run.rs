//! Runs every example and looks at what it prints.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use std::process::Command;

fn check(program: &str, expect: &[&str]) {
    let output = Command::new(program).output().unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}{errors}");
    for part in expect {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn embedded_control_plane() {
    check(
        env!("CARGO_BIN_EXE_embedded_control_plane"),
        &["Kubernetes v1.36", "Pending: 1 owned by web"],
    );
}

#[test]
fn custom_scheduler_plugin() {
    // 2,000 seconds of arrivals at two a second fit into the hydro zone's 333 nodes of four cores until it is full.
    check(
        env!("CARGO_BIN_EXE_custom_scheduler_plugin"),
        &["virtual time", "\"hydro\": 1", "\"mixed\": "],
    );
}

#[test]
fn custom_resource() {
    check(env!("CARGO_BIN_EXE_custom_resource"), &["text: hello, Orch"]);
}
