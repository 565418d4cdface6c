//! Builds the demo web server as one static executable, which the program carries and makes the demo image from.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=demo/main.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = PathBuf::from(variable("OUT_DIR")).join("orch-demo");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args([
            "--edition=2024",
            "--crate-name=orch_demo",
            "--target",
            &variable("TARGET"),
        ])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "-Clto=fat"])
        .args(["-Ctarget-feature=+crt-static", "demo/main.rs", "-o"])
        .arg(&out);
    let status = rustc
        .status()
        .unwrap_or_else(|e| panic!("running {rustc:?}: {e}"));
    assert!(status.success(), "building the demo web server failed: {rustc:?}");
}
