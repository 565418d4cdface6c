//! Exec, attach and port forwarding beyond the seam's suite: terminals, several clients, what is left behind.

use crate::support::{Bed, log_text, root, wait_exit};
use orch_runtime::runtime::{ContainerRuntime, RuntimeError, StreamOptions, Streams, TerminalSize};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TTY: StreamOptions = StreamOptions {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

fn sh(script: &str) -> Vec<String> {
    vec!["sh".into(), "-c".into(), script.into()]
}

/// Reads until the text contains `wanted`.
async fn until(stream: &mut (impl tokio::io::AsyncRead + Unpin), wanted: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    while !text.contains(wanted) {
        let n = stream.read(&mut buffer).await.expect("a readable stream");
        assert!(n > 0, "{wanted:?} did not come, but {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_with_a_terminal() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let id = bed.start(&bed.spec("sleep 1000")).await;
    let mut session = bed
        .runtime
        .exec(&id, &sh("tty; read x; stty size; echo got $x; exit 9"), TTY)
        .await
        .unwrap();
    let (mut stdin, mut stdout) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
    assert!(until(&mut stdout, "\n").await.contains("/dev/pts/"));
    session
        .resize
        .as_ref()
        .unwrap()
        .send(TerminalSize {
            width: 123,
            height: 45,
        })
        .await
        .unwrap();
    Env::system_sleep(50).await;
    stdin.write_all(b"word\n").await.unwrap();
    let text = until(&mut stdout, "got word").await;
    assert!(text.contains("45 123"), "{text}");
    assert_eq!(session.exit.await.unwrap(), 9);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.unwrap();
}

struct Env;
impl Env {
    async fn system_sleep(ms: u64) {
        orch_core::Env::system()
            .clock
            .sleep(Duration::from_millis(ms))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_exec_is_killed() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let id = bed.start(&bed.spec("sleep 1000")).await;
    let session = bed.runtime.exec(&id, &sh("exec sleep 4321"), TTY).await.unwrap();
    let find = sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    let seen =
        |out: orch_runtime::runtime::ExecOutput| String::from_utf8_lossy(&out.stdout).contains("sleep 4321");
    assert!(seen(bed.runtime.exec_sync(&id, &find, None).await.unwrap()));
    drop(session);
    for _ in 0..100 {
        if !seen(bed.runtime.exec_sync(&id, &find, None).await.unwrap()) {
            return;
        }
        Env::system_sleep(20).await;
    }
    panic!("it still runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_output_may_be_large_and_left_open() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let id = bed.start(&bed.spec("sleep 1000")).await;
    let out = bed
        .runtime
        .exec_sync(&id, &sh("head -c 5000000 /dev/zero; echo e >&2; exit 1"), None)
        .await
        .unwrap();
    assert_eq!(
        (out.code, out.stdout.len(), out.stderr.as_slice()),
        (1, 5_000_000, &b"e\n"[..])
    );
    // What an exec leaves in the background with its output open does not keep it.
    let out = bed
        .runtime
        .exec_sync(&id, &sh("echo now; sleep 500 &"), None)
        .await
        .unwrap();
    assert_eq!((out.code, out.stdout.as_slice()), (0, &b"now\n"[..]));
    let missing = bed.runtime.exec_sync(&id, &["nothing".into()], None).await;
    let Err(RuntimeError::StartFailed { reason }) = missing else {
        panic!("{missing:?}")
    };
    assert!(
        reason.contains("exec: \"nothing\": executable file not found in $PATH"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_clients_attach_to_a_terminal() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let mut spec = bed.spec("tty; while read x; do echo heard $x $(stty size); [ $x = end ] && exit 3; done");
    (spec.tty, spec.stdin) = (true, true);
    let id = bed.start(&spec).await;
    let mut first = bed.runtime.attach(&id, TTY).await.unwrap();
    let mut second = bed.runtime.attach(&id, TTY).await.unwrap();
    assert!(first.stderr.is_none());
    let (mut first_out, mut second_out) = (first.stdout.take().unwrap(), second.stdout.take().unwrap());
    first
        .resize
        .as_ref()
        .unwrap()
        .send(TerminalSize {
            width: 77,
            height: 11,
        })
        .await
        .unwrap();
    Env::system_sleep(50).await;
    first.stdin.as_mut().unwrap().write_all(b"one\n").await.unwrap();
    assert!(until(&mut first_out, "heard one").await.contains("one"));
    until(&mut second_out, "heard one 11 77").await;
    drop((first, first_out));
    second.stdin.as_mut().unwrap().write_all(b"end\n").await.unwrap();
    until(&mut second_out, "heard end").await;
    assert_eq!(second.exit.await.unwrap(), 3);
    assert_eq!(wait_exit(&bed.runtime, &id).await.code, 3);
    let log = log_text(&spec.log_path);
    assert!(log.starts_with("/dev/") && log.contains("heard one"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_harms_nobody() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let spec = bed.spec("read x; head -c 8000000 /dev/zero | tr '\\0' 'x'; echo; echo done");
    let spec = orch_runtime::runtime::ContainerSpec { stdin: true, ..spec };
    let id = bed.start(&spec).await;
    let idle = bed
        .runtime
        .attach(
            &id,
            StreamOptions {
                stdout: true,
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let go = StreamOptions {
        stdin: true,
        ..Default::default()
    };
    let mut starter = bed.runtime.attach(&id, go).await.unwrap();
    starter.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    assert_eq!(wait_exit(&bed.runtime, &id).await.code, 0);
    let log = std::fs::read_to_string(&spec.log_path).unwrap();
    assert!(log.ends_with("F done\n") && log.len() > 8_000_000);
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_forwarded_into_the_pods_network() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let id = bed
        .start(&bed.spec("echo hello | nc -l -p 8080; echo served"))
        .await;
    let mut refused = 0;
    let mut stream = loop {
        match bed.runtime.port_forward(&bed.sandbox.id, 8080).await {
            Ok(stream) => break stream,
            Err(RuntimeError::Unavailable { .. }) if refused < 200 => {
                refused += 1;
                Env::system_sleep(20).await;
            }
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(until(&mut stream, "hello").await, "hello\n");
    drop(stream);
    assert!(matches!(
        bed.runtime.port_forward(&bed.sandbox.id, 1).await,
        Err(RuntimeError::Unavailable { .. })
    ));
    bed.runtime.remove(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_rotated() {
    if !root() {
        return;
    }
    let bed = Bed::new().await;
    let spec = orch_runtime::runtime::ContainerSpec {
        stdin: true,
        ..bed.spec("echo before; read x; echo after")
    };
    let id = bed.start(&spec).await;
    for _ in 0..100 {
        if std::fs::read_to_string(&spec.log_path).is_ok_and(|l| l.contains("before")) {
            break;
        }
        Env::system_sleep(20).await;
    }
    let old = bed.dir.path().join("old.log");
    std::fs::rename(&spec.log_path, &old).unwrap();
    bed.runtime.reopen_log(&id).await.unwrap();
    let options = StreamOptions {
        stdin: true,
        ..Default::default()
    };
    let mut session = bed.runtime.attach(&id, options).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    wait_exit(&bed.runtime, &id).await;
    assert_eq!(
        (log_text(&old).as_str(), log_text(&spec.log_path).as_str()),
        ("before", "after")
    );
    assert!(matches!(
        bed.runtime.reopen_log(&id).await,
        Err(RuntimeError::WrongState { .. })
    ));
}
