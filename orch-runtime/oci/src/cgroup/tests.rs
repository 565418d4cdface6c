use super::*;

const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
const UNIFIED: &str = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

#[test]
fn hierarchies_are_detected() {
    let Hierarchy::V1 { mounts, others } = Hierarchy::from_mountinfo(HYBRID) else {
        panic!()
    };
    assert_eq!(
        others,
        ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]
            .map(PathBuf::from)
            .into()
    );
    let expected = [
        ("cpu", "cpu,cpuacct"),
        ("cpuacct", "cpu,cpuacct"),
        ("memory", "memory"),
    ]
    .map(|(c, d)| (c.to_owned(), Path::new("/sys/fs/cgroup").join(d)));
    assert_eq!(mounts, expected.into());
    assert_eq!(
        Hierarchy::from_mountinfo(UNIFIED),
        Hierarchy::V2("/sys/fs/cgroup".into())
    );
}

fn resources() -> Resources {
    Resources {
        cpu_shares: 1024,
        cpu_quota_us: Some(50_000),
        cpu_period_us: 100_000,
        memory_limit_bytes: Some(1 << 20),
        memory_swap_limit_bytes: Some(1 << 20),
        pids_limit: Some(10),
        unified: [
            ("memory.high".to_owned(), "5".to_owned()),
            ("../x.y".to_owned(), "6".to_owned()),
        ]
        .into(),
        ..Default::default()
    }
}

#[test]
fn limits_become_files() {
    let v1: Vec<String> = v1_files(&resources())
        .into_iter()
        .map(|(c, f, v)| format!("{c} {f} {v}"))
        .collect();
    let expected = [
        "cpu cpu.shares 1024",
        "cpu cpu.cfs_period_us 100000",
        "cpu cpu.cfs_quota_us 50000",
        "memory memory.limit_in_bytes 1048576",
        "memory memory.memsw.limit_in_bytes 1048576",
        "pids pids.max 10",
    ];
    assert_eq!(v1, expected);
    let v2: Vec<String> = v2_files(&resources())
        .into_iter()
        .map(|(f, v)| format!("{f} {v}"))
        .collect();
    let expected = [
        "cpu.weight 39",
        "cpu.max 50000 100000",
        "memory.max 1048576",
        "memory.swap.max 0",
        "pids.max 10",
        "memory.high 5",
    ];
    assert_eq!(v2, expected);
    let none = Resources {
        cpu_quota_us: Some(0),
        pids_limit: Some(0),
        ..Default::default()
    };
    assert_eq!(
        v2_files(&none),
        [
            ("cpu.max".into(), "max 100000".into()),
            ("pids.max".into(), "max".into())
        ]
    );
}

/// Version 2 over a plain directory: what is written and read, without the kernel behind it.
#[test]
fn version_2_files_are_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let hierarchy = Hierarchy::V2(dir.path().to_owned());
    fs::write(dir.path().join("cgroup.controllers"), "cpu memory").unwrap();
    let group = hierarchy.group("/orch-x/pod1");
    group.create().unwrap();
    let at = dir.path().join("orch-x/pod1");
    for file in ["memory.max", "pids.max", "cpu.max", "cpu.weight"] {
        fs::write(at.join(file), "").unwrap();
    }
    group.apply(&resources()).unwrap();
    assert_eq!(fs::read_to_string(at.join("memory.max")).unwrap(), "1048576");
    fs::write(at.join("memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
    fs::write(at.join("memory.current"), "100\n").unwrap();
    fs::write(at.join("memory.stat"), "anon 7\ninactive_file 30\npgfault 9\n").unwrap();
    fs::write(at.join("cpu.stat"), "usage_usec 5\n").unwrap();
    assert_eq!(group.oom_kills(), 2);
    let usage = group.usage().unwrap();
    assert_eq!(
        (
            usage.cpu_ns,
            usage.memory_bytes,
            usage.working_set_bytes,
            usage.rss_bytes
        ),
        (5000, 100, 70, 7)
    );
    assert!(hierarchy.group("none").usage().is_none());
}

#[test]
fn version_1_groups_come_and_go() {
    let hierarchy = Hierarchy::detect().unwrap();
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let name = format!("orch-test-{}", std::process::id());
    let group = hierarchy.group(&format!("{name}/pod"));
    group.create().unwrap();
    group.create().unwrap();
    group
        .apply(&Resources {
            pids_limit: Some(33),
            cpu_shares: 512,
            ..Default::default()
        })
        .unwrap();
    assert!(group.usage().is_some());
    assert_eq!(group.oom_kills(), 0);
    if let Some(dir) = group.dir_of("pids").filter(|d| d.join("pids.max").exists()) {
        assert_eq!(fs::read_to_string(dir.join("pids.max")).unwrap().trim(), "33");
    }
    assert!(group.processes().is_empty());
    hierarchy.group(&name).remove().unwrap();
    hierarchy.group(&name).remove().unwrap();
    assert!(group.usage().is_none());
}
