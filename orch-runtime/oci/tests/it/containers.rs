//! What a program sees of its container, and what its container does to it.

use crate::support::{Bed, log_text, root, wait_exit};
use orch_runtime::runtime::{
    ContainerRuntime, ExitReason, Mount, Observe, PidNamespace, Propagation, Resources, RuntimeError,
    SandboxRuntime, Seccomp, Security, Streams,
};
use std::fs;
use std::time::Duration;

macro_rules! with_root {
    () => {
        if !root() {
            return;
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_finds_what_it_expects() {
    with_root!();
    let bed = Bed::new().await;
    let text = bed
        .sh("hostname; pwd; id -u; echo $FROM_IMAGE $HOSTNAME $HOME; echo $$; ls /dev")
        .await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..5], ["pod-host", "/", "0", "yes pod-host /root", "1"]);
    for device in [
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd", "stdin",
    ] {
        assert!(lines.contains(&device), "{device} is missing: {text}");
    }
    let mut spec = bed.spec("");
    spec.command = vec!["cat".into(), "/proc/self/status".into()];
    let (_, text) = bed.output(&spec).await;
    let lines: Vec<&str> = text.lines().collect();
    let status = |key: &str| {
        lines
            .iter()
            .find_map(|l| l.strip_prefix(key))
            .unwrap_or_default()
            .trim()
    };
    assert_eq!(
        status("CapEff:"),
        "00000000a80425fb",
        "containerd's default capabilities"
    );
    assert_eq!(status("NoNewPrivs:"), "0");
    assert_eq!(
        status("SigIgn:"),
        "0000000000000000",
        "no signal is ignored from the start"
    );
    assert_eq!(status("SigBlk:"), "0000000000000000");
    assert_eq!(status("Groups:"), "0");
    assert_eq!(status("Umask:"), "0022");
    let closed = bed.sh("ls /proc/self/fd | wc -l").await;
    assert_eq!(
        closed.trim(),
        "4",
        "no descriptor but the three streams and ls's own"
    );
    let masked = bed
        .sh("cat /proc/keys | wc -c; touch /proc/sys/kernel/hostname 2>&1; ls /sys/firmware | wc -l")
        .await;
    assert!(
        masked.starts_with("0\n") && masked.ends_with("\n0") && masked.contains("Read-only"),
        "{masked}"
    );
    let alone = bed.sh("ls /proc | grep -c '^[0-9]'").await;
    assert!(
        alone.trim().parse::<u32>().unwrap() <= 4,
        "it sees other processes: {alone}"
    );
    let mut spec = bed.spec("pwd; id -u; id -g; id -G; touch /new/x 2>/dev/null || echo refused");
    spec.working_dir = "/new/dir".into();
    spec.security = Security {
        user: Some(1000),
        supplemental_groups: vec![77],
        merge_image_groups: true,
        no_new_privs: true,
        readonly_rootfs: true,
        ..Default::default()
    };
    let (_, text) = bed.output(&spec).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["/new/dir", "1000", "1001", "1001 50 77"]);
    assert_eq!(lines.last(), Some(&"refused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_to_start_say_why() {
    with_root!();
    let bed = Bed::new().await;
    let check = async |change: &dyn Fn(&mut orch_runtime::runtime::ContainerSpec), expected: &str| {
        let mut spec = bed.spec("true");
        change(&mut spec);
        let id = bed.runtime.create(&bed.sandbox.id, &spec).await.unwrap();
        let Err(RuntimeError::StartFailed { reason }) = bed.runtime.start(&id).await else {
            panic!("{expected}")
        };
        assert!(reason.contains(expected), "{reason}");
        let exit = wait_exit(&bed.runtime, &id).await;
        assert_eq!(
            (exit.code, exit.reason, exit.message),
            (128, ExitReason::StartError, reason)
        );
        bed.runtime.remove(&id).await.unwrap();
    };
    check(
        &|s| s.command = vec!["nothing".into()],
        "exec: \"nothing\": executable file not found in $PATH",
    )
    .await;
    check(
        &|s| s.command = vec!["/no/thing".into()],
        "exec: \"/no/thing\": stat /no/thing: no such file or directory",
    )
    .await;
    check(
        &|s| s.command = vec!["/etc/passwd".into()],
        "exec: \"/etc/passwd\": permission denied",
    )
    .await;
    check(
        &|s| {
            s.mounts = vec![Mount {
                host_path: "/no/such".into(),
                container_path: "/v".into(),
                ..Default::default()
            }];
        },
        "/no/such: no such file or directory",
    )
    .await;
    check(
        &|s| s.security.add_capabilities = vec!["NONSENSE".into()],
        "unknown capability",
    )
    .await;
    let left = fs::read_dir(bed.dir.path().join("data/containers"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "removed containers leave nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_mounted_as_asked() {
    with_root!();
    let bed = Bed::new().await;
    let volume = bed.dir.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "from the machine").unwrap();
    let mount = |to: &str, read_only| Mount {
        host_path: volume.clone(),
        container_path: to.into(),
        read_only,
        ..Default::default()
    };
    let mut spec =
        bed.spec("cat /rw/file /one; echo new >/rw/new; echo no >/ro/no || echo refused; cat /etc/hosts");
    let file = |name: &str, to: &str| Mount {
        host_path: volume.join(name),
        container_path: to.into(),
        ..Default::default()
    };
    fs::write(volume.join("hosts"), "127.0.0.1 localhost").unwrap();
    spec.mounts = vec![
        mount("/rw", false),
        mount("/ro", true),
        file("file", "/one"),
        file("hosts", "/etc/hosts"),
    ];
    let (_, text) = bed.output(&spec).await;
    assert!(
        text.starts_with("from the machinefrom the machine") && text.contains("refused"),
        "{text}"
    );
    assert!(text.ends_with("127.0.0.1 localhost"), "{text}");
    assert_eq!(fs::read_to_string(volume.join("new")).unwrap(), "new\n");

    // /dev/shm is the pod's, the rest of the file system the container's own.
    bed.sh("echo shared >/dev/shm/x; echo own >/tmp/x").await;
    assert_eq!(bed.sh("cat /dev/shm/x; ls /tmp").await, "shared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_spread_as_asked() {
    with_root!();
    let bed = Bed::new().await;
    // A place of its own with shared propagation, so that the machine's mounts stay as they are.
    let volume = bed.dir.path().join("data/spread");
    fs::create_dir_all(&volume).unwrap();
    rustix::mount::mount_bind(&volume, &volume).unwrap();
    rustix::mount::mount_change(&volume, rustix::mount::MountPropagationFlags::SHARED).unwrap();
    fs::create_dir_all(volume.join("sub")).unwrap();
    fs::create_dir_all(volume.join("back")).unwrap();
    let mount = |propagation| Mount {
        host_path: volume.clone(),
        container_path: "/v".into(),
        propagation,
        ..Default::default()
    };
    let script = "while [ ! -e /v/go ]; do sleep 0.05; done; ls /v/sub; mount -t tmpfs none /v/back && touch /v/back/x";
    let mut ids = Vec::new();
    for propagation in [
        Propagation::Private,
        Propagation::HostToContainer,
        Propagation::Bidirectional,
    ] {
        let mut spec = bed.spec(&format!("{script}; sleep 1"));
        spec.mounts = vec![mount(propagation)];
        spec.security.privileged = true;
        ids.push((bed.start(&spec).await, spec.log_path));
    }
    rustix::mount::mount(
        "none",
        volume.join("sub"),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .unwrap();
    fs::write(volume.join("sub/late"), "").unwrap();
    fs::write(volume.join("go"), "").unwrap();
    let mut seen = Vec::new();
    for (id, log) in &ids {
        wait_exit(&bed.runtime, id).await;
        seen.push(log_text(log));
    }
    let came_back = volume.join("back/x").exists();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for (id, _) in &ids {
        bed.runtime.remove(id).await.unwrap();
    }
    let data = bed.dir.path().join("data");
    let back = volume.join("back");
    while rustix::mount::unmount(&back, rustix::mount::UnmountFlags::DETACH).is_ok() {}
    rustix::mount::unmount(volume.join("sub"), rustix::mount::UnmountFlags::DETACH).unwrap();
    while rustix::mount::unmount(&volume, rustix::mount::UnmountFlags::DETACH).is_ok() {}
    assert_eq!(
        seen,
        ["", "late", "late"],
        "private sees nothing that comes later"
    );
    assert!(came_back, "bidirectional spreads back");
    let visible = mounts
        .lines()
        .filter(|l| l.contains(&*data.join("containers").to_string_lossy()))
        .count();
    assert!(
        visible <= 2,
        "only the bidirectional container mounts on the machine:\n{mounts}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_and_are_told() {
    with_root!();
    let bed = Bed::new().await;
    let mut spec = bed.spec("head -c 200000000 /dev/zero | tail -c 150000000 | wc -c");
    spec.command = vec![
        "sh".into(),
        "-c".into(),
        "exec dd if=/dev/zero of=/dev/null bs=200M count=1".into(),
    ];
    spec.resources = Resources {
        memory_limit_bytes: Some(32 << 20),
        pids_limit: Some(50),
        ..Default::default()
    };
    let id = bed.start(&spec).await;
    let exit = wait_exit(&bed.runtime, &id).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled));

    let mut spec =
        bed.spec("cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/pids/pids.max 2>/dev/null; sleep 30");
    spec.resources = Resources {
        cpu_shares: 512,
        pids_limit: Some(50),
        oom_score_adj: -997,
        ..Default::default()
    };
    let id = bed.start(&spec).await;
    let stats = bed.runtime.stats().await.unwrap();
    let own = stats
        .iter()
        .find(|s| s.id == id)
        .expect("stats of a running container");
    assert!(own.memory_usage_bytes > 0 && own.pids >= 1, "{own:?}");
    let changed = Resources {
        pids_limit: Some(60),
        ..spec.resources.clone()
    };
    bed.runtime.update(&id, &changed).await.unwrap();
    bed.runtime.remove(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_machines_namespaces_can_be_shared() {
    with_root!();
    let bed = Bed::with(|s| {
        (s.host_network, s.host_ipc) = (true, true);
        s.hostname = String::new();
        s.pid = PidNamespace::Host;
    })
    .await;
    assert_eq!(bed.sandbox.netns, None);
    let link = |kind: &str| {
        fs::read_link(format!("/proc/self/ns/{kind}"))
            .unwrap()
            .display()
            .to_string()
    };
    let mut spec =
        bed.spec("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done; sleep 60 & exit 0");
    spec.pid = PidNamespace::Host;
    let id = bed.start(&spec).await;
    let (code, text) = (wait_exit(&bed.runtime, &id).await.code, log_text(&spec.log_path));
    let expected = ["net", "ipc", "uts", "pid"].map(link).join("\n");
    assert_eq!((code, text), (0, expected));
    let cgroup = |e: fs::DirEntry| fs::read_to_string(e.path().join("cgroup")).unwrap_or_default();
    let left = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|e| e.path().join("cgroup").exists());
    let left = left.map(cgroup).filter(|groups| groups.contains(&id.0));
    assert_eq!(
        left.count(),
        0,
        "what the container left in the background ended with it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_can_share_its_processes() {
    with_root!();
    let bed = Bed::with(|s| s.pid = PidNamespace::Pod).await;
    let mut first = bed.spec("sleep 1234");
    first.pid = PidNamespace::Pod;
    let id = bed.start(&first).await;
    let mut second = bed.spec(
        "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done; ls /proc/1/root 2>&1 | head -3",
    );
    second.pid = PidNamespace::Pod;
    let (_, text) = bed.output(&second).await;
    assert!(text.contains("sleep 1234"), "{text}");
    let mut target = bed.spec("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done");
    target.pid = PidNamespace::Target(id.clone());
    let (_, text) = bed.output(&target).await;
    assert!(text.contains("sleep 1234"), "{text}");
    bed.runtime.stop(&id, Duration::ZERO).await.unwrap();
    bed.runtime.stop_sandbox(&bed.sandbox.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_parameters_are_the_pods_own() {
    with_root!();
    let before = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let bed = Bed::with(|s| {
        s.sysctls = [("net.ipv4.ip_unprivileged_port_start".to_owned(), "5".to_owned())].into();
    })
    .await;
    let text = bed
        .sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ip -o link")
        .await;
    assert!(text.starts_with("5\n") && text.contains("LOOPBACK,UP"), "{text}");
    assert_eq!(
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(),
        before
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn system_calls_are_filtered() {
    with_root!();
    let bed = Bed::new().await;
    let profile = bed.dir.path().join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    fs::write(&profile, text).unwrap();
    let script = "grep -E 'Seccomp:|CapEff|CapPrm|CapBnd' /proc/self/status; mkdir /tmp/d 2>&1; chroot / true 2>&1; mount -t tmpfs none /tmp 2>&1";
    for (no_new_privs, user) in [
        (false, None),
        (true, None),
        (false, Some(1000)),
        (true, Some(1000)),
    ] {
        for seccomp in [Seccomp::RuntimeDefault, Seccomp::Localhost(profile.clone())] {
            let mut spec = bed.spec(&format!("{script}; true"));
            let local = seccomp != Seccomp::RuntimeDefault;
            spec.security = Security {
                seccomp,
                no_new_privs,
                user,
                ..Default::default()
            };
            let id = bed.runtime.create(&bed.sandbox.id, &spec).await.unwrap();
            bed.runtime.start(&id).await.unwrap();
            wait_exit(&bed.runtime, &id).await;
            let text = log_text(&spec.log_path);
            let at = |key: &str| {
                text.lines()
                    .find_map(|l| l.strip_prefix(key))
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            };
            assert_eq!(at("Seccomp:"), "2", "{text}");
            assert_eq!(at("CapBnd:"), "00000000a80425fb");
            let expected = if user.is_some() {
                "0000000000000000"
            } else {
                "00000000a80425fb"
            };
            assert_eq!(
                (at("CapEff:").as_str(), at("CapPrm:").as_str()),
                (expected, expected),
                "{no_new_privs} {user:?}"
            );
            assert_eq!(text.contains("No space left"), local, "{text}");
        }
    }
    let mut spec = bed.spec("sleep 1000");
    spec.security.seccomp = Seccomp::RuntimeDefault;
    let id = bed.start(&spec).await;
    let command = ["grep", "-E", "Seccomp:|CapEff", "/proc/self/status"].map(str::to_owned);
    let out = bed.runtime.exec_sync(&id, &command, None).await.unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let filtered = text.contains("Seccomp:\t2") && text.contains("00000000a80425fb");
    assert!(filtered, "an exec is filtered too: {text}");
}
