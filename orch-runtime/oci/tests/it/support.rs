//! A runtime over a temporary directory, with an image made of busybox.

use orch_core::Env;
use orch_oci::image::{ImageConfig, ImageFile};
use orch_oci::{Config, OciRuntime};
use orch_runtime::runtime::{
    ContainerId, ContainerPhase, ContainerRuntime, ContainerSpec, Exit, PodIdentity, SandboxRuntime,
    SandboxSpec, SandboxState,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const IMAGE: &str = "localhost/busybox:test";

/// Whether real containers can be run; prints why not.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: real containers need root");
    }
    root
}

pub(crate) fn config(data: &Path) -> Config {
    let mut config = Config::new(data);
    config.shim = PathBuf::from(env!("CARGO_BIN_EXE_orch-shim"));
    config
}

/// Puts the busybox image into the store.
pub(crate) fn build_image(runtime: &OciRuntime) {
    let busybox = std::fs::read("/bin/busybox").expect("a static busybox at /bin/busybox");
    let mut files = vec![
        ImageFile::new("/bin/busybox", 0o755, busybox),
        ImageFile::new(
            "/etc/passwd",
            0o644,
            *b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n",
        ),
        ImageFile::new("/etc/group", 0o644, *b"root:x:0:\napps:x:1001:\nextra:x:50:app\n"),
        ImageFile::directory("/tmp", 0o1777),
        ImageFile::directory("/root", 0o700),
    ];
    let applets = "sh cat echo sleep ls id env pwd hostname mount stat grep wc head tail touch mkdir rm kill ps tty stty \
                   true false printf nc ip dd test readlink find cut tr seq yes mknod chroot umount date od";
    files.extend(
        applets
            .split_whitespace()
            .map(|a| ImageFile::symlink(format!("/bin/{a}"), "busybox")),
    );
    let image = ImageConfig {
        cmd: vec!["sh".into()],
        env: vec!["FROM_IMAGE=yes".into()],
        ..Default::default()
    };
    runtime
        .image_store()
        .build(&[IMAGE.to_owned()], &files, &image)
        .expect("the image is built");
}

/// A runtime with one sandbox to run containers in.
pub(crate) struct Bed {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) runtime: OciRuntime,
    pub(crate) sandbox: SandboxState,
    next: std::cell::Cell<u32>,
}

pub(crate) fn sandbox_spec(dir: &Path) -> SandboxSpec {
    SandboxSpec {
        pod: PodIdentity {
            namespace: "test".into(),
            name: "pod".into(),
            uid: "uid-1".into(),
            attempt: 0,
        },
        hostname: "pod-host".into(),
        log_directory: dir.to_owned(),
        ..Default::default()
    }
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SandboxSpec)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let runtime = OciRuntime::open(Env::system(), config(&dir.path().join("data")))
            .await
            .expect("the runtime opens");
        build_image(&runtime);
        let mut spec = sandbox_spec(dir.path());
        change(&mut spec);
        let sandbox = runtime.run_sandbox(&spec).await.expect("the sandbox is made");
        Self {
            dir,
            runtime,
            sandbox,
            next: std::cell::Cell::new(0),
        }
    }

    pub(crate) fn spec(&self, script: &str) -> ContainerSpec {
        let number = self.next.replace(self.next.get() + 1);
        ContainerSpec {
            name: format!("c{number}"),
            image: IMAGE.into(),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: self.dir.path().join(format!("c{number}.log")),
            ..Default::default()
        }
    }

    pub(crate) async fn start(&self, spec: &ContainerSpec) -> ContainerId {
        let id = self.runtime.create(&self.sandbox.id, spec).await.expect("create");
        self.runtime.start(&id).await.expect("start");
        id
    }

    /// Runs a container to its end and returns its output without the log's prefixes.
    pub(crate) async fn output(&self, spec: &ContainerSpec) -> (i32, String) {
        let id = self.start(spec).await;
        let exit = wait_exit(&self.runtime, &id).await;
        (exit.code, log_text(&spec.log_path))
    }

    /// Runs a script to its end, which must be good, and returns its output.
    pub(crate) async fn sh(&self, script: &str) -> String {
        let (code, text) = self.output(&self.spec(script)).await;
        assert_eq!(code, 0, "{script}: {text}");
        text
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let data = self.dir.path().join("data");
        orch_oci::teardown(&data).expect("everything is taken down");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let data = data.display().to_string();
        assert!(!mounts.contains(&data), "something stays mounted under {data}");
    }
}

pub(crate) async fn wait_exit(runtime: &OciRuntime, id: &ContainerId) -> Exit {
    for _ in 0..3000 {
        let states = runtime.list().await.expect("list");
        let state = states
            .into_iter()
            .find(|c| c.id == *id)
            .expect("the container is listed");
        if let ContainerPhase::Exited(exit) = state.phase {
            return exit;
        }
        Env::system().clock.sleep(Duration::from_millis(10)).await;
    }
    panic!("container {id} did not end");
}

/// The text of a CRI log, stdout and stderr together.
pub(crate) fn log_text(path: &Path) -> String {
    let log = std::fs::read_to_string(path).expect("the log file");
    let lines = log.lines().map(|l| l.splitn(4, ' ').nth(3).unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}
