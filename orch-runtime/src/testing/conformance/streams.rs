//! Promises of [`crate::runtime::Streams`].

use super::{Explain, Kit, Outcome, Program, ensure, promises};
use crate::runtime::{RuntimeError, StreamOptions};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

promises! { "streams":
    exec_sync_runs, exec_sync_times_out, exec_needs_a_running_container, exec_of_a_missing_program,
    exec_session_carries_input, attach_sees_output, attach_input_once,
}

fn sh(text: &str) -> Vec<String> {
    vec!["sh".into(), "-c".into(), text.into()]
}

async fn exec_sync_runs(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::UntilTerm).await?;
    let out = kit
        .rt()
        .exec_sync(&id, &sh("echo hello; exit 3"), None)
        .await
        .explain("exec_sync")?;
    ensure!(
        out.code == 3 && out.stdout == b"hello\n" && out.stderr.is_empty(),
        "got {out:?}"
    );
    let phase = kit.state(&id).await?.phase;
    ensure!(phase.is_running(), "the container is {phase:?} after an exec");
    Ok(())
}

async fn exec_sync_times_out(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::UntilTerm).await?;
    let timeout = Duration::from_millis(300);
    match kit.rt().exec_sync(&id, &sh("sleep 3600"), Some(timeout)).await {
        Err(RuntimeError::Timeout { after }) => ensure!(after == timeout, "says {after:?}"),
        other => return Err(format!("an endless exec with a timeout: {other:?}")),
    }
    Ok(())
}

async fn exec_needs_a_running_container(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::UntilTerm).await?;
    kit.rt().stop(&id, Duration::ZERO).await.explain("stop")?;
    match kit.rt().exec_sync(&id, &sh("true"), None).await {
        Err(RuntimeError::WrongState { .. }) => {}
        other => return Err(format!("exec in an exited container: {other:?}")),
    }
    match kit.rt().exec_sync(&"absent".into(), &sh("true"), None).await {
        Err(RuntimeError::NotFound { .. }) => Ok(()),
        other => Err(format!("exec in an absent container: {other:?}")),
    }
}

async fn exec_of_a_missing_program(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::UntilTerm).await?;
    match kit
        .rt()
        .exec_sync(&id, &["/nonexistent/program".into()], None)
        .await
    {
        Err(RuntimeError::StartFailed { .. }) => Ok(()),
        other => Err(format!("exec of a missing program: {other:?}")),
    }
}

async fn exec_session_carries_input(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::UntilTerm).await?;
    let options = StreamOptions {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let mut session = kit.rt().exec(&id, &sh("cat"), options).await.explain("exec")?;
    let mut stdin = session.stdin.take().ok_or("no input")?;
    let mut stdout = session.stdout.take().ok_or("no output")?;
    ensure!(session.stderr.is_some(), "no error output");
    stdin
        .write_all(b"ping\n")
        .await
        .map_err(|e| format!("write: {e}"))?;
    stdin.shutdown().await.map_err(|e| format!("end of input: {e}"))?;
    drop(stdin);
    let mut text = String::new();
    stdout
        .read_to_string(&mut text)
        .await
        .map_err(|e| format!("read: {e}"))?;
    ensure!(text == "ping\n", "echoed {text:?}");
    let code = session.exit.await.explain("exit")?;
    ensure!(code == 0, "exit code {code}");
    Ok(())
}

async fn attach_sees_output(kit: Kit<'_>) -> Outcome {
    let sandbox = kit.sandbox().await?;
    let mut spec = kit.spec("a", Program::Cat);
    spec.command = sh("sleep 1; echo late; sleep 1");
    let id = kit.rt().create(&sandbox.id, &spec).await.explain("create")?;
    kit.rt().start(&id).await.explain("start")?;
    let options = StreamOptions {
        stdout: true,
        ..StreamOptions::default()
    };
    let mut session = kit.rt().attach(&id, options).await.explain("attach")?;
    let mut text = String::new();
    let mut stdout = session.stdout.take().ok_or("no output")?;
    stdout
        .read_to_string(&mut text)
        .await
        .map_err(|e| format!("read: {e}"))?;
    ensure!(text == "late\n", "saw {text:?}");
    Ok(())
}

async fn attach_input_once(kit: Kit<'_>) -> Outcome {
    let sandbox = kit.sandbox().await?;
    let mut spec = kit.spec("a", Program::Cat);
    (spec.stdin, spec.stdin_once) = (true, true);
    let id = kit.rt().create(&sandbox.id, &spec).await.explain("create")?;
    kit.rt().start(&id).await.explain("start")?;
    let options = StreamOptions {
        stdin: true,
        stdout: true,
        ..StreamOptions::default()
    };
    let mut session = kit.rt().attach(&id, options).await.explain("attach")?;
    let (mut stdin, mut stdout) = (
        session.stdin.take().ok_or("no input")?,
        session.stdout.take().ok_or("no output")?,
    );
    stdin
        .write_all(b"ping\n")
        .await
        .map_err(|e| format!("write: {e}"))?;
    stdin.shutdown().await.map_err(|e| format!("end of input: {e}"))?;
    drop(stdin);
    let mut text = String::new();
    stdout
        .read_to_string(&mut text)
        .await
        .map_err(|e| format!("read: {e}"))?;
    ensure!(text == "ping\n", "echoed {text:?}");
    let exit = kit.wait_exit(&id).await?;
    ensure!(exit.code == 0, "exit code {}", exit.code);
    Ok(())
}
