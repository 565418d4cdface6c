//! How long a container takes to start: by this runtime, and by the bare OCI runtime on the same bundle.
//!
//! ```text
//! cargo bench -p orch-oci -- [containers] [/usr/sbin/runc]
//! ```
//!
//! Needs root and a static busybox. Prints medians; what counts is the difference. With a second argument the program
//! takes libcontainer's place on both sides.

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use orch_core::Env;
use orch_oci::image::{ImageConfig, ImageFile};
use orch_oci::{Config, OciBackend, OciRuntime};
use orch_runtime::runtime::{
    ContainerRuntime, ContainerSpec, Observe, PodIdentity, RuntimeEvent, SandboxRuntime, SandboxSpec,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const BARE: &str = "--bare";

fn main() {
    orch_oci::shim_main_if_requested();
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if args.first().map(String::as_str) == Some(BARE) {
        return bare_libcontainer(Path::new(&args[1]), args[2].parse().expect("a number"));
    }
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: real containers need root");
    }
    let count = args.first().and_then(|a| a.parse().ok()).unwrap_or(40);
    let program = args.get(1).map(PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("tokio");
    runtime.block_on(run(count, program));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn print(what: &str, times: &mut [Duration]) -> Duration {
    times.sort();
    let at = |q: usize| times[times.len() * q / 100].as_secs_f64() * 1000.0;
    println!("{what:<52} median {:7.2} ms   p90 {:7.2} ms", at(50), at(90));
    times[times.len() / 2]
}

async fn run(count: usize, program: Option<PathBuf>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let mut config = Config::new(&data);
    if let Some(program) = &program {
        config.backend = OciBackend::Binary(program.clone());
    }
    let runtime = OciRuntime::open(Env::system(), config)
        .await
        .expect("the runtime opens");
    let busybox = std::fs::read("/bin/busybox").expect("a static busybox at /bin/busybox");
    let mut files = vec![ImageFile::new("/bin/busybox", 0o755, busybox)];
    files.extend(["sh", "true", "sleep"].map(|a| ImageFile::symlink(format!("/bin/{a}"), "busybox")));
    runtime
        .image_store()
        .build(&["bench:1".into()], &files, &ImageConfig::default())
        .expect("the image is built");
    let (mut sandboxes, mut creates, mut starts, mut both, mut exits, mut removes) = (
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
        Vec::new(),
    );
    let mut bundle = None;
    let mut memory = Vec::new();
    let mut events = runtime.subscribe();
    for number in 0..count {
        let pod = PodIdentity {
            uid: format!("bench-{number}"),
            name: format!("p{number}"),
            ..Default::default()
        };
        let t = now();
        let asked = SandboxSpec {
            pod,
            hostname: "bench".into(),
            ..Default::default()
        };
        let sandbox = runtime.run_sandbox(&asked).await.expect("run_sandbox");
        sandboxes.push(t.elapsed());
        let spec = ContainerSpec {
            name: "c".into(),
            image: "bench:1".into(),
            command: vec!["sleep".into(), "1000".into()],
            log_path: dir.path().join("log"),
            ..Default::default()
        };
        let t = now();
        let id = runtime.create(&sandbox.id, &spec).await.expect("create");
        let created = t.elapsed();
        runtime.start(&id).await.expect("start");
        both.push(t.elapsed());
        creates.push(created);
        starts.push(t.elapsed() - created);
        let at = data.join("containers").join(&id.0);
        let shim = std::fs::read_to_string(at.join("shim.lock")).expect("the shim's number");
        memory.push(memory_of(shim.trim()));
        if bundle.is_none() {
            bundle = Some(bare_bundle(&at, &data, dir.path()));
        }
        let t = now();
        runtime.stop(&id, Duration::ZERO).await.expect("stop");
        while !matches!(
            futures::StreamExt::next(&mut events).await,
            Some(RuntimeEvent::Exited { .. })
        ) {}
        exits.push(t.elapsed());
        let t = now();
        runtime.remove_sandbox(&sandbox.id).await.expect("remove_sandbox");
        removes.push(t.elapsed());
    }
    print("run_sandbox", &mut sandboxes);
    print("create", &mut creates);
    print("start", &mut starts);
    let ours = print("create + start", &mut both);
    print("stop at once, until its event", &mut exits);
    print("remove_sandbox with its container", &mut removes);
    memory.sort_unstable();
    let (rss, pss, private) = memory[memory.len() / 2];
    println!("memory of a shim: resident {rss} KiB, proportional {pss} KiB, private {private} KiB");
    let (bundle, id) = bundle.expect("at least one container");
    let mut bare = match &program {
        Some(program) => (0..count)
            .map(|n| bare_program(program, &bundle, &format!("{id}-{n}")))
            .collect(),
        None => {
            let exe = std::env::current_exe().expect("this program");
            let out = Command::new(exe)
                .arg(BARE)
                .arg(&bundle)
                .arg(count.to_string())
                .output()
                .expect("the bare runtime runs");
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            let times: Vec<Duration> = text
                .lines()
                .filter_map(|l| l.parse().ok())
                .map(Duration::from_micros)
                .collect();
            assert_eq!(
                times.len(),
                count,
                "{text}{}",
                String::from_utf8_lossy(&out.stderr)
            );
            times
        }
    };
    let bare = print("create + start by the bare OCI runtime", &mut bare);
    println!(
        "overhead: {:.2} ms",
        (ours.as_secs_f64() - bare.as_secs_f64()) * 1000.0
    );
    rustix::mount::unmount(bundle.join("rootfs"), rustix::mount::UnmountFlags::DETACH).expect("unmount");
    orch_oci::teardown(&data).expect("teardown");
}

/// Resident, proportional and private memory of a process in KiB.
fn memory_of(pid: &str) -> (u64, u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |key: &str| -> u64 {
        let line = text.lines().find_map(|l| l.strip_prefix(key));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    (
        field("Rss:"),
        field("Pss:"),
        field("Private_Dirty:") + field("Private_Clean:"),
    )
}

/// The bundle of a container without what lives only in its sandbox: same mounts, same limits, own namespaces.
fn bare_bundle(container: &Path, data: &Path, dir: &Path) -> (PathBuf, String) {
    let bundle = dir.join("bare");
    let sub = |name: &str| {
        let path = bundle.join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    };
    let (rootfs, upper, work) = (sub("rootfs"), sub("upper"), sub("work"));
    let layer = std::fs::read_dir(data.join("images/layers"))
        .expect("layers")
        .next()
        .expect("one")
        .expect("readable");
    let options = format!(
        "lowerdir={}/fs,upperdir={},workdir={}",
        layer.path().display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).expect("no NUL");
    rustix::mount::mount(
        "overlay",
        &rootfs,
        "overlay",
        rustix::mount::MountFlags::empty(),
        options.as_c_str(),
    )
    .expect("an overlay");
    let bytes = std::fs::read(container.join("config.json")).expect("the bundle's configuration");
    let mut config: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    for namespace in config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        namespace.as_object_mut().expect("an object").remove("path");
    }
    let mounts = config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|m| {
        m["destination"] != "/dev/shm"
            && !m["destination"]
                .as_str()
                .unwrap_or("")
                .starts_with("/sys/fs/cgroup/")
    });
    let id = format!("orch-bare-{}", std::process::id());
    config["linux"]["cgroupsPath"] = serde_json::json!(format!("/{id}"));
    std::fs::write(bundle.join("config.json"), config.to_string()).expect("written");
    (bundle, id)
}

/// Runs in a process of its own with one thread, as libcontainer needs it.
fn bare_libcontainer(bundle: &Path, count: usize) {
    for number in 0..count {
        let id = format!("bare-{number}");
        let null = || {
            std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .expect("/dev/null")
        };
        let t = now();
        let mut container = ContainerBuilder::new(id, SyscallType::default())
            .with_root_path(bundle.join("state"))
            .expect("a state directory")
            .with_stdin(null())
            .with_stdout(null())
            .with_stderr(null())
            .as_init(bundle)
            .with_systemd(false)
            .build()
            .expect("create");
        container.start().expect("start");
        println!("{}", t.elapsed().as_micros());
        let pid = container
            .pid()
            .and_then(|p| rustix::process::Pid::from_raw(p.as_raw()))
            .expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).expect("wait");
        container.delete(true).expect("delete");
    }
}

fn bare_program(program: &Path, bundle: &Path, id: &str) -> Duration {
    let call = |args: &[&str]| {
        let root = bundle.join("state");
        let status = Command::new(program)
            .arg("--root")
            .arg(root)
            .args(args)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status();
        assert!(
            status.is_ok_and(|s| s.success()),
            "{} {args:?}",
            program.display()
        );
    };
    let t = now();
    call(&["create", "--bundle", &bundle.display().to_string(), id]);
    call(&["start", id]);
    let took = t.elapsed();
    call(&["delete", "--force", id]);
    took
}
