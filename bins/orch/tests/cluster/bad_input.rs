//! Wrong input: one clear error each, nothing lost.

use crate::cluster::{Cluster, ORCH, eventually};
use std::{fs, time::Duration};

#[test]
fn each_wrong_input_gets_one_clear_error() {
    let mut cluster = Cluster::up(&["--runtime", "sim"]);
    let k = cluster.kubectl.clone();
    let check = |name: &str, text: &str, expect: &str| {
        let error = k.fails(&["apply", "-f", &cluster.write(name, text)]);
        assert!(error.contains(expect), "{name}: {error}");
    };
    check(
        "kind.yaml",
        "apiVersion: v1\nkind: Wat\nmetadata: {name: a}\n",
        r#"no matches for kind "Wat" in version "v1""#,
    );
    check(
        "field.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {contaners: [], containers: [{name: c, image: i}]}\n",
        r#"unknown field "spec.contaners""#,
    );
    check(
        "quantity.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i, resources: {limits: {cpu: 1x}}}]}\n",
        "quantities must match the regular expression",
    );
    check(
        "label.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: '-'}}\n",
        "metadata.labels: Invalid value: \"-\"",
    );
    k.run(&["create", "configmap", "twice"]);
    let twice = k.fails(&["create", "configmap", "twice"]);
    assert_eq!(
        twice,
        r#"error: failed to create configmap: configmaps "twice" already exists"#
    );
    let large = cluster.write("large.txt", &"x".repeat(4 << 20));
    let large = k.fails(&["create", "configmap", "large", &format!("--from-file={large}")]);
    assert!(
        large.contains("Too long") || large.contains("too large"),
        "{large}"
    );
    assert!(
        k.fails(&["get", "pod", "absent"])
            .contains(r#"Error from server (NotFound): pods "absent" not found"#)
    );

    let data = cluster.data_dir();
    let data = data.to_string_lossy();
    let second = cluster.orch_fails(&[
        "up",
        "--runtime",
        "sim",
        "--data-dir",
        &data,
        "--listen",
        "127.0.0.1:7443",
    ]);
    assert!(second.contains("is in use by process"), "{second}");
    let other = cluster.dir.path().join("other");
    let busy = cluster.orch_fails(&["up", "--runtime", "sim", "--data-dir", &other.to_string_lossy()]);
    assert!(
        busy.contains("127.0.0.1:6443") && busy.contains("--listen"),
        "{busy}"
    );
    let missing = cluster.orch_fails(&["up", "--runtime", "sim", "--nodes", "0"]);
    assert!(missing.contains("--nodes"), "{missing}");
    k.run(&["get", "configmap", "twice"]);

    cluster.terminate();
    let store = cluster.data_dir().join("store");
    let mut files: Vec<_> = fs::read_dir(&store)
        .unwrap()
        .flatten()
        .filter(|f| f.metadata().unwrap().len() > 4096)
        .collect();
    files.sort_by_key(|f| std::cmp::Reverse(f.metadata().unwrap().len()));
    let file = files.first().expect("a data file").path();
    let sound = fs::read(&file).unwrap();
    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    fs::write(&file, &damaged).unwrap();
    let error = cluster.orch_fails(&["up", "--runtime", "sim", "--data-dir", &data]);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(error.contains(&name) && !error.contains("panicked"), "{error}");
    fs::write(&file, &sound).unwrap();
    cluster.start();
    eventually("what was there is there", Duration::from_secs(20), || {
        k.try_run(&["get", "configmap", "twice"]).contains("twice")
    });
}

#[test]
fn without_privileges_the_message_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let output = std::process::Command::new("setpriv")
        .args([
            "--bounding-set=-all",
            "--inh-caps=-all",
            ORCH,
            "up",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(dir.path().join("d"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        error.contains("CAP_SYS_ADMIN") && error.contains("--runtime sim"),
        "{error}"
    );
}
