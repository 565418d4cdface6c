//! Promises of [`crate::runtime::ContainerRuntime`] and of events.

use super::{Explain, Kit, Outcome, Program, ensure, promises};
use crate::runtime::{ContainerId, ContainerPhase, ExitReason, RuntimeError, RuntimeEvent};
use futures::StreamExt;
use std::time::Duration;

promises! { "container":
    life, remembers_what_it_was_given, exit_codes, start_failure, starts_once, stop_is_graceful, stop_kills_in_the_end,
    stop_by_two, remove_kills, absent_is_fine, name_and_attempt_are_unique, image_must_be_present, events_tell,
    exit_is_visible_at_its_event, logs_are_in_cri_format,
}

const LONG: Duration = Duration::from_secs(20);

async fn life(kit: Kit<'_>) -> Outcome {
    let sandbox = kit.sandbox().await?;
    let id = kit.create(&sandbox.id, "a", Program::UntilTerm).await?;
    let created = kit.state(&id).await?;
    ensure!(
        created.phase == ContainerPhase::Created,
        "{:?} after create",
        created.phase
    );
    kit.rt().start(&id).await.explain("start")?;
    let running = kit.state(&id).await?;
    let ContainerPhase::Running { started_at, .. } = running.phase else {
        return Err(format!("{:?} after start", running.phase));
    };
    kit.rt().stop(&id, LONG).await.explain("stop")?;
    let exit = kit
        .state(&id)
        .await?
        .phase
        .exit()
        .cloned()
        .ok_or("not exited when stop returned")?;
    ensure!(
        exit.started_at == Some(started_at),
        "started at {:?}, said {started_at}",
        exit.started_at
    );
    ensure!(
        exit.finished_at >= started_at && started_at >= created.created_at,
        "times out of order: {exit:?}"
    );
    kit.rt().remove(&id).await.explain("remove")?;
    ensure!(kit.find(&id).await?.is_none(), "listed after remove");
    Ok(())
}

async fn remembers_what_it_was_given(kit: Kit<'_>) -> Outcome {
    let sandbox = kit.sandbox().await?;
    let mut spec = kit.spec("a", Program::UntilTerm);
    spec.attempt = 3;
    let id = kit.rt().create(&sandbox.id, &spec).await.explain("create")?;
    let state = kit.state(&id).await?;
    ensure!(state.sandbox == sandbox.id, "sandbox is {}", state.sandbox);
    ensure!(
        state.name == "a" && state.attempt == 3,
        "is {} attempt {}",
        state.name,
        state.attempt
    );
    ensure!(
        state.labels == spec.labels && state.annotations == spec.annotations,
        "labels or annotations differ"
    );
    ensure!(
        state.image == spec.image,
        "image is {:?}, asked for {:?}",
        state.image,
        spec.image
    );
    ensure!(
        state.log_path == spec.log_path,
        "log path is {:?}",
        state.log_path
    );
    let image = kit
        .rt()
        .image(&spec.image)
        .await
        .explain("image")?
        .ok_or("the image is gone")?;
    ensure!(
        state.image_id == image.id,
        "image ID is {:?}, the image's {:?}",
        state.image_id,
        image.id
    );
    Ok(())
}

async fn exit_codes(kit: Kit<'_>) -> Outcome {
    let sandbox = kit.sandbox().await?;
    for (name, code, reason) in [("a", 0, ExitReason::Completed), ("b", 3, ExitReason::Error)] {
        let id = kit.create(&sandbox.id, name, Program::Exit(code)).await?;
        kit.rt().start(&id).await.explain("start")?;
        let exit = kit.wait_exit(&id).await?;
        ensure!(
            exit.code == code && exit.reason == reason,
            "exit {code} is {exit:?}"
        );
        ensure!(
            exit.started_at.is_some_and(|at| at <= exit.finished_at),
            "times out of order: {exit:?}"
        );
    }
    Ok(())
}

async fn start_failure(kit: Kit<'_>) -> Outcome {
    let sandbox = kit.sandbox().await?;
    // Some runtimes find out at create already.
    let id = match kit
        .rt()
        .create(&sandbox.id, &kit.spec("a", Program::Missing))
        .await
    {
        Ok(id) => id,
        Err(RuntimeError::StartFailed { .. }) => return Ok(()),
        Err(other) => return Err(format!("create of a missing program: {other}")),
    };
    match kit.rt().start(&id).await {
        Err(RuntimeError::StartFailed { reason }) => ensure!(!reason.is_empty(), "empty reason"),
        other => return Err(format!("start of a missing program: {other:?}")),
    }
    let exit = kit
        .state(&id)
        .await?
        .phase
        .exit()
        .cloned()
        .ok_or("not exited after a failed start")?;
    ensure!(
        exit.code == 128 && exit.reason == ExitReason::StartError,
        "failed start is {exit:?}"
    );
    ensure!(
        exit.started_at.is_none(),
        "a container that never started says it did"
    );
    Ok(())
}

async fn starts_once(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::UntilTerm).await?;
    match kit.rt().start(&id).await {
        Err(RuntimeError::WrongState { .. }) => {}
        other => return Err(format!("start of a running container: {other:?}")),
    }
    kit.rt().stop(&id, Duration::ZERO).await.explain("stop")?;
    match kit.rt().start(&id).await {
        Err(RuntimeError::WrongState { .. }) => Ok(()),
        other => Err(format!("start of an exited container: {other:?}")),
    }
}

async fn stop_is_graceful(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::UntilTerm).await?;
    kit.rt().stop(&id, LONG).await.explain("stop")?;
    let exit = kit.wait_exit(&id).await?;
    ensure!(
        exit.code == 7,
        "exit code {} of a program that handles the stop signal with 7",
        exit.code
    );
    kit.rt()
        .stop(&id, LONG)
        .await
        .explain("stop of an exited container")
}

async fn stop_kills_in_the_end(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::Deaf).await?;
    let (clock, grace) = (kit.harness.env().clock, Duration::from_millis(300));
    let from = clock.monotonic();
    kit.rt().stop(&id, grace).await.explain("stop")?;
    let took = clock.monotonic().since(from);
    let exit = kit
        .state(&id)
        .await?
        .phase
        .exit()
        .cloned()
        .ok_or("not exited when stop returned")?;
    ensure!(exit.code == 137, "exit code {} of a killed program", exit.code);
    ensure!(
        took >= grace,
        "killed after {took:?}, before its grace of {grace:?}"
    );
    Ok(())
}

async fn stop_by_two(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::Deaf).await?;
    let clock = kit.harness.env().clock;
    let from = clock.monotonic();
    let (rt, other) = (kit.rt(), kit.rt());
    let (first, second) = futures::join!(
        rt.stop(&id, Duration::from_secs(40)),
        other.stop(&id, Duration::ZERO)
    );
    first.explain("first stop")?;
    second.explain("second stop")?;
    let took = clock.monotonic().since(from);
    ensure!(took < LONG, "the shorter grace did not count: {took:?}");
    Ok(())
}

async fn remove_kills(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::Deaf).await?;
    kit.rt()
        .remove(&id)
        .await
        .explain("remove of a running container")?;
    ensure!(kit.find(&id).await?.is_none(), "listed after remove");
    Ok(())
}

async fn absent_is_fine(kit: Kit<'_>) -> Outcome {
    let id = ContainerId("absent".into());
    kit.rt().stop(&id, LONG).await.explain("stop of an absent one")?;
    kit.rt().remove(&id).await.explain("remove of an absent one")?;
    match kit.rt().start(&id).await {
        Err(RuntimeError::NotFound { .. }) => Ok(()),
        other => Err(format!("start of an absent one: {other:?}")),
    }
}

async fn name_and_attempt_are_unique(kit: Kit<'_>) -> Outcome {
    let sandbox = kit.sandbox().await?;
    let first = kit.create(&sandbox.id, "a", Program::UntilTerm).await?;
    match kit
        .rt()
        .create(&sandbox.id, &kit.spec("a", Program::UntilTerm))
        .await
    {
        Err(RuntimeError::AlreadyExists { .. }) => {}
        other => {
            return Err(format!(
                "a second container of the same name and attempt: {other:?}"
            ));
        }
    }
    let mut next = kit.spec("a", Program::UntilTerm);
    next.attempt = 1;
    let second = kit
        .rt()
        .create(&sandbox.id, &next)
        .await
        .explain("create of the next attempt")?;
    ensure!(first != second, "two containers with ID {first}");
    Ok(())
}

async fn image_must_be_present(kit: Kit<'_>) -> Outcome {
    let sandbox = kit.sandbox().await?;
    let mut spec = kit.spec("a", Program::UntilTerm);
    spec.image = "localhost/conformance/absent:1".into();
    match kit.rt().create(&sandbox.id, &spec).await {
        Err(RuntimeError::ImageNotPresent { .. }) => {}
        other => return Err(format!("create from an absent image: {other:?}")),
    }
    ensure!(
        !kit.rt()
            .list()
            .await
            .explain("list")?
            .iter()
            .any(|c| c.sandbox == sandbox.id),
        "something was created"
    );
    Ok(())
}

async fn events_tell(kit: Kit<'_>) -> Outcome {
    let mut events = kit.rt().subscribe();
    let (_, id) = kit.running("a", Program::UntilTerm).await?;
    kit.rt().stop(&id, LONG).await.explain("stop")?;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match events.next().await.ok_or("the event stream ended")? {
            RuntimeEvent::Started { id: of, pod_uid } if of == id => seen.push(("started", pod_uid)),
            RuntimeEvent::Exited { id: of, pod_uid } if of == id => seen.push(("exited", pod_uid)),
            _ => {}
        }
    }
    let expected = vec![("started", kit.uid()), ("exited", kit.uid())];
    ensure!(seen == expected, "saw {seen:?}");
    Ok(())
}

async fn exit_is_visible_at_its_event(kit: Kit<'_>) -> Outcome {
    let mut events = kit.rt().subscribe();
    let (_, id) = kit.running("a", Program::Exit(5)).await?;
    loop {
        if let RuntimeEvent::Exited { id: of, .. } = events.next().await.ok_or("the event stream ended")?
            && of == id
        {
            let phase = kit.state(&id).await?.phase;
            ensure!(
                phase.exit().is_some_and(|e| e.code == 5),
                "{phase:?} when its exit was told"
            );
            return Ok(());
        }
    }
}

async fn logs_are_in_cri_format(kit: Kit<'_>) -> Outcome {
    let (_, id) = kit.running("a", Program::Print).await?;
    kit.wait_exit(&id).await?;
    kit.rt().remove(&id).await.explain("remove")?;
    let path = kit.spec("a", Program::Print).log_path;
    let mut text = String::new();
    // The last lines may still be on their way when the process has ended.
    for _ in 0..100 {
        text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if text.lines().count() >= 2 {
            break;
        }
        kit.harness.env().clock.sleep(Duration::from_millis(20)).await;
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        let [at, stream, tag, content] = parts[..] else {
            return Err(format!("log line {line:?}"));
        };
        ensure!(at.parse::<jiff::Timestamp>().is_ok(), "time of log line {line:?}");
        lines.push(format!("{stream} {tag} {content}"));
    }
    ensure!(lines == ["stdout F one", "stdout F two words"], "log is {text:?}");
    Ok(())
}
