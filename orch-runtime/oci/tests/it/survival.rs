//! Containers outlive the agent, and what happens to their helpers is noticed.

use crate::support::{Bed, IMAGE, build_image, config, log_text, root, sandbox_spec, wait_exit};
use futures::StreamExt;
use orch_core::Env;
use orch_oci::OciRuntime;
use orch_runtime::runtime::{
    ContainerPhase, ContainerRuntime, ContainerSpec, ExitReason, Observe, PidNamespace, RuntimeEvent,
    SandboxRuntime, StreamOptions, Streams,
};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;

const AGENT_DIR: &str = "ORCH_OCI_TEST_AGENT_DIR";

fn spec(dir: &Path, name: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: IMAGE.into(),
        command: vec!["sh".into(), "-c".into(), script.into()],
        log_path: dir.join(format!("{name}.log")),
        ..Default::default()
    }
}

/// Not a test by itself: the agent that the test below kills. Does nothing unless that test runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_process() {
    let Ok(dir) = std::env::var(AGENT_DIR) else { return };
    let dir = Path::new(&dir);
    let runtime = OciRuntime::open(Env::system(), config(&dir.join("data")))
        .await
        .unwrap();
    build_image(&runtime);
    let mut asked = sandbox_spec(dir);
    asked.pid = PidNamespace::Pod;
    let sandbox = runtime.run_sandbox(&asked).await.unwrap();
    let scripts = [
        (
            "long",
            "trap 'exit 7' TERM; i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.05; done",
        ),
        (
            "short",
            "while [ ! -e /dev/shm/end ]; do sleep 0.02; done; echo bye; exit 5",
        ),
        ("waiting", "true"),
    ];
    for (name, script) in scripts {
        let id = runtime
            .create(&sandbox.id, &spec(dir, name, script))
            .await
            .unwrap();
        if name != "waiting" {
            runtime.start(&id).await.unwrap();
        }
    }
    println!("ready");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_outlive_a_killed_agent() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Command::new(std::env::current_exe().unwrap())
        .args(["survival::agent_process", "--exact", "--nocapture"])
        .env(AGENT_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    assert!(
        lines.map_while(Result::ok).any(|l| l == "ready"),
        "the agent came up"
    );
    agent.kill().unwrap();
    agent.wait().unwrap();
    let log = dir.path().join("long.log");
    let before = log_text(&log).lines().count();
    std::fs::write(dir.path().join("unused"), "").unwrap();
    Env::system().clock.sleep(Duration::from_millis(300)).await;
    assert!(
        log_text(&log).lines().count() > before,
        "output is logged while there is no agent"
    );
    // One of them ends meanwhile.
    let sandboxes = std::fs::read_dir(dir.path().join("data/sandboxes")).unwrap();
    let shm = sandboxes.map(|e| e.unwrap().path().join("shm")).next().unwrap();
    std::fs::write(shm.join("end"), "").unwrap();
    Env::system().clock.sleep(Duration::from_millis(300)).await;

    let runtime = OciRuntime::open(Env::system(), config(&dir.path().join("data")))
        .await
        .unwrap();
    let mut events = runtime.subscribe();
    let states = runtime.list().await.unwrap();
    assert!(runtime.list_sandboxes().await.unwrap()[0].ready);
    let of = |name: &str| states.iter().find(|c| c.name == name).unwrap();
    assert!(of("long").phase.is_running(), "{:?}", of("long"));
    let exit = of("short").phase.exit().expect("it ended");
    assert_eq!((exit.code, &exit.reason), (5, &ExitReason::Error));
    assert!(log_text(&of("short").log_path).ends_with("bye"));
    assert_eq!(of("waiting").phase, ContainerPhase::Created);
    let long = &of("long").id;
    let options = StreamOptions {
        stdout: true,
        ..Default::default()
    };
    let mut attached = runtime.attach(long, options).await.unwrap();
    let mut piece = [0; 4];
    attached
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut piece)
        .await
        .unwrap();
    assert_eq!(&piece, b"tick");
    let out = runtime.exec_sync(long, &["hostname".into()], None).await.unwrap();
    assert_eq!(out.stdout, b"pod-host\n");
    runtime.start(&of("waiting").id).await.unwrap();
    assert_eq!(wait_exit(&runtime, &of("waiting").id).await.code, 0);
    runtime.stop(long, Duration::from_secs(20)).await.unwrap();
    assert_eq!(wait_exit(&runtime, long).await.code, 7);
    loop {
        if let RuntimeEvent::Exited { id, .. } = events.next().await.unwrap()
            && id == *long
        {
            break;
        }
    }
    orch_oci::teardown(&dir.path().join("data")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_shim_takes_its_container_along() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let id = bed.start(&bed.spec("sleep 1000")).await;
    let lock = bed
        .dir
        .path()
        .join("data/containers")
        .join(&id.0)
        .join("shim.lock");
    let shim: i32 = std::fs::read_to_string(lock).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(shim).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let exit = wait_exit(&bed.runtime, &id).await;
    assert_eq!(exit.code, 137);
    assert!(exit.message.contains("shim"), "{}", exit.message);
    bed.runtime.remove(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_removed_by_hand_is_noticed() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let (_, done) = (
        bed.sh("true").await,
        bed.runtime.list().await.unwrap()[0].id.clone(),
    );
    let running = bed.start(&bed.spec("sleep 1000")).await;
    let dir = |id: &str| bed.dir.path().join("data/containers").join(id);
    std::fs::remove_dir_all(dir(&done.0)).unwrap();
    std::fs::remove_dir_all(dir(&running.0)).unwrap();
    let states = bed.runtime.list().await.unwrap();
    assert_eq!(states.len(), 1, "{states:?}");
    bed.runtime.remove(&running).await.unwrap();
    assert_eq!(bed.runtime.list().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_sandbox_is_told() {
    if !root() {
        return;
    }
    let bed = Bed::with(|s| s.pid = PidNamespace::Pod).await;
    let mut events = bed.runtime.subscribe();
    let file = bed
        .dir
        .path()
        .join("data/sandboxes")
        .join(&bed.sandbox.id.0)
        .join("sandbox.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let pause = i32::try_from(json["pause"]["pid"].as_i64().unwrap()).unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pause).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let event = events.next().await.unwrap();
    assert!(
        matches!(&event, RuntimeEvent::SandboxLost { pod_uid, .. } if pod_uid == "uid-1"),
        "{event:?}"
    );
    assert!(!bed.runtime.list_sandboxes().await.unwrap()[0].ready);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn teardown_ends_everything() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let mut spec = bed.spec("trap '' TERM; sleep 1000");
    spec.security.privileged = true;
    bed.start(&spec).await;
    bed.start(&bed.spec("sleep 1000")).await;
    let data = bed.dir.path().join("data");
    orch_oci::teardown(&data).unwrap();
    orch_oci::teardown(&data).unwrap();
    let again = OciRuntime::open(Env::system(), config(&data)).await.unwrap();
    assert_eq!(again.list().await.unwrap(), []);
    assert_eq!(again.list_sandboxes().await.unwrap(), []);
    assert!(
        orch_runtime::runtime::ImageService::image(&again, IMAGE)
            .await
            .unwrap()
            .is_some(),
        "images stay"
    );
}

/// Not a test by itself: opens the runtime and prints what comes of it, for the test below.
#[tokio::test]
async fn opening_process() {
    let Ok(dir) = std::env::var("ORCH_OCI_TEST_OPEN_DIR") else {
        return;
    };
    match OciRuntime::open(Env::system(), config(Path::new(&dir))).await {
        Ok(_) => println!("opened"),
        Err(e) => println!("refused: {}", e.chain()),
    }
}

#[tokio::test]
async fn without_root_it_says_what_is_missing() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["survival::opening_process", "--exact", "--nocapture"])
        .env("ORCH_OCI_TEST_OPEN_DIR", dir.path());
    if rustix::process::geteuid().is_root() {
        child.uid(65534).gid(65534);
    }
    let out = child.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text
        .lines()
        .find(|l| l.starts_with("refused: "))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(
        line.contains("needs root") && line.contains("CAP_SYS_ADMIN"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_start_did_not_happen() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let id = bed.start(&bed.spec("sleep 1000")).await;
    let data = bed.dir.path().join("data");
    // As it stands on disk when the agent is killed before it hears from the shim.
    std::fs::remove_file(data.join("containers").join(&id.0).join("record.json")).unwrap();
    let again = OciRuntime::open(Env::system(), config(&data)).await.unwrap();
    let state = again.list().await.unwrap().remove(0);
    let exit = state.phase.exit().expect("it counts as ended");
    // The other runtime, which in life would be gone, may be the first to see the shim end.
    assert!([128, 137].contains(&exit.code), "{exit:?}");
    assert!(again.stats().await.unwrap().is_empty());
    again.remove(&id).await.unwrap();
}
