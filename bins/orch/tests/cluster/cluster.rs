//! A running `orch up`, ended and cleaned up when dropped.

use crate::{hosts::Hosts, kubectl::Kubectl};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub(crate) const ORCH: &str = env!("CARGO_BIN_EXE_orch");
pub(crate) const WEB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/web.yaml");

/// Waits until `check` holds; the panic says what never came.
#[expect(clippy::disallowed_methods, reason = "a real cluster runs in real time")]
pub(crate) fn eventually(what: &str, within: Duration, mut check: impl FnMut() -> bool) {
    let until = Instant::now() + within;
    while !check() {
        assert!(Instant::now() < until, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) struct Cluster {
    pub(crate) hosts: Hosts,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) kubectl: Kubectl,
    process: Option<Child>,
    args: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// `orch up` with these arguments, ready.
    pub(crate) fn up(args: &[&str]) -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (hosts, dir) = (Hosts::new(1), tempfile::tempdir().unwrap());
        let kubectl = Kubectl::new(&hosts, 0, &dir.path().join("data/kubeconfig"));
        let args = args.iter().map(ToString::to_string).collect();
        let mut cluster = Self {
            hosts,
            dir,
            kubectl,
            process: None,
            args,
            _turn: turn,
        };
        cluster.start();
        cluster
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.path().join("ready")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Starts `orch up` and waits for its ready file.
    pub(crate) fn start(&mut self) {
        drop(fs::remove_file(self.ready_file()));
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = self.hosts.on(0, ORCH);
        command
            .arg("up")
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--ready-file")
            .arg(self.ready_file());
        command
            .args(&self.args)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.process = Some(command.spawn().unwrap());
        let deadline = Duration::from_secs(60);
        eventually("the cluster is ready", deadline, || {
            self.ready_file().exists() || self.has_ended()
        });
        assert!(self.ready_file().exists(), "orch up ended: {}", self.log());
    }

    fn has_ended(&mut self) -> bool {
        self.process
            .as_mut()
            .is_none_or(|p| p.try_wait().unwrap().is_some())
    }

    /// Ends it as an operator does.
    pub(crate) fn terminate(&mut self) {
        self.signal("-TERM");
    }

    /// Ends it without a chance to do anything.
    pub(crate) fn kill(&mut self) {
        self.signal("-KILL");
    }

    fn signal(&mut self, signal: &str) {
        if let Some(mut process) = self.process.take() {
            crate::hosts::sh("kill", &[signal, &process.id().to_string()]);
            process.wait().unwrap();
        }
    }

    /// What `orch` with these arguments prints when it fails.
    pub(crate) fn orch_fails(&self, args: &[&str]) -> String {
        let output = self
            .hosts
            .on(0, ORCH)
            .args(args)
            .stdout(Stdio::null())
            .output()
            .unwrap();
        assert!(!output.status.success(), "orch {args:?} should fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// Process ids of the container processes of a pod: those in the pod's network namespace that are not helpers.
    pub(crate) fn container_pids(&self, command: &str) -> Vec<u32> {
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let cmdline = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if cmdline.starts_with(command) && cgroup.contains("pod") {
                pids.push(pid);
            }
        }
        pids
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("--- orch up\n{}", &log[log.len().saturating_sub(4000)..]);
            eprintln!(
                "--- pods\n{}",
                self.kubectl.try_run(&["get", "pods,nodes", "-A", "-o", "wide"])
            );
        }
        self.terminate();
        drop(
            self.hosts
                .on(0, ORCH)
                .arg("down")
                .arg("--data-dir")
                .arg(self.data_dir())
                .output(),
        );
    }
}

pub(crate) fn read_to_string(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
