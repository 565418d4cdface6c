use super::*;
use orch_runtime::runtime::{Mount, Security};

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["image-arg".into()],
        env: vec!["PATH=/image".into(), "A=image".into()],
        working_dir: "/work".into(),
        ..Default::default()
    }
}

fn machine() -> Machine {
    Machine {
        held_capabilities: u64::MAX,
        netns: Some("/ns/net".into()),
        ipcns: Some("/ns/ipc".into()),
        utsns: Some("/ns/uts".into()),
        shm: "/s/shm".into(),
        hostname: "pod".into(),
        cgroup: "orch-x/podu/c".into(),
        private_binds: "/c/vol".into(),
        ..Default::default()
    }
}

fn built(spec: &ContainerSpec) -> Value {
    build(spec, &image(), &machine(), &[]).unwrap()
}

#[test]
fn commands_follow_kubernetes_rules() {
    let check = |command: &[&str], args_: &[&str], expected: &[&str]| {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        let spec = ContainerSpec {
            command: list(command),
            args: list(args_),
            ..Default::default()
        };
        assert_eq!(built(&spec)["process"]["args"], json!(expected));
    };
    check(&[], &[], &["/entry", "image-arg"]);
    check(&[], &["mine"], &["/entry", "mine"]);
    check(&["sh"], &[], &["sh"]);
    check(&["sh"], &["-c"], &["sh", "-c"]);
    let nothing = build(
        &ContainerSpec::default(),
        &ImageConfig::default(),
        &machine(),
        &[],
    );
    assert!(matches!(nothing, Err(Error::Start { reason }) if reason == "no command specified"));
}

#[test]
fn environment_and_directory_are_merged() {
    let spec = ContainerSpec {
        env: vec![
            ("A".into(), "pod".into()),
            ("B".into(), "x=y".into()),
            ("B".into(), "z".into()),
        ],
        tty: true,
        ..Default::default()
    };
    let process = &built(&spec)["process"];
    assert_eq!(
        process["env"],
        json!(["PATH=/image", "TERM=xterm", "HOSTNAME=pod", "A=pod", "B=z"])
    );
    assert_eq!(process["cwd"], "/work");
    let exec = exec_process(&built(&ContainerSpec::default()), &["ls".into()], true);
    assert_eq!(exec["args"], json!(["ls"]));
    assert_eq!(exec["env"].as_array().unwrap().last().unwrap(), "TERM=xterm");
}

#[test]
fn volumes_replace_defaults_and_are_sorted() {
    let mount = |to: &str, propagation| Mount {
        host_path: "/host".into(),
        container_path: to.into(),
        propagation,
        ..Default::default()
    };
    let spec = ContainerSpec {
        mounts: vec![
            mount("/a/b/c", Propagation::Private),
            mount("/dev/shm/", Propagation::HostToContainer),
            Mount {
                read_only: true,
                recursive_read_only: true,
                ..mount("/a", Propagation::Bidirectional)
            },
        ],
        ..Default::default()
    };
    let config = built(&spec);
    let mounts = config["mounts"].as_array().unwrap();
    let at = |to: &str| mounts.iter().position(|m| m["destination"] == to).unwrap();
    assert!(at("/a") < at("/a/b/c") && at("/dev") < at("/dev/pts"));
    assert_eq!(mounts[at("/a/b/c")]["source"], "/c/vol/0");
    assert_eq!(mounts[at("/dev/shm")]["source"], "/host");
    assert_eq!(
        mounts[at("/dev/shm")]["options"],
        json!(["rbind", "rslave", "rw"])
    );
    assert_eq!(mounts[at("/a")]["options"], json!(["rbind", "rshared", "rro"]));
    assert_eq!(config["linux"]["rootfsPropagation"], "shared");
    let bad = ContainerSpec {
        mounts: vec![mount("a", Propagation::Private)],
        ..Default::default()
    };
    assert!(build(&bad, &image(), &machine(), &[]).is_err());
}

#[test]
fn privilege_opens_and_defaults_close() {
    let plain = built(&ContainerSpec::default());
    assert_eq!(
        plain["linux"]["resources"]["devices"],
        json!([{"allow": false, "access": "rwm"}])
    );
    assert_eq!(
        plain["linux"]["maskedPaths"].as_array().unwrap().len(),
        MASKED.len()
    );
    let security = Security {
        privileged: true,
        ..Default::default()
    };
    let open = built(&ContainerSpec {
        security,
        pid: PidNamespace::Host,
        ..Default::default()
    });
    assert_eq!(open["linux"]["resources"]["devices"][0]["allow"], true);
    assert_eq!(open["linux"]["maskedPaths"], json!([]));
    let kinds: Vec<_> = open["linux"]["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["type"].clone())
        .collect();
    assert_eq!(kinds, ["mount", "network", "ipc", "uts"]);
}

#[test]
fn signals_have_names_and_numbers() {
    let known = [
        ("SIGTERM", 15),
        ("term", 15),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("SIGSYS", 31),
    ];
    for (text, number) in known {
        assert_eq!(signal_number(text), Some(number), "{text}");
    }
    for text in ["", "0", "65", "SIGNOTHING", "RTMIN-1", "RTMIN+x"] {
        assert_eq!(signal_number(text), None, "{text}");
    }
}
