//! Promises of [`crate::runtime::SandboxRuntime`].

use super::{Explain, Kit, Outcome, Program, ensure, promises};
use crate::runtime::{RuntimeError, SandboxId};

promises! { "sandbox":
    life, remembers_what_it_was_given, identity_is_unique, stop_ends_containers, remove_removes_containers,
    absent_is_fine, survives_restart,
}

async fn life(kit: Kit<'_>) -> Outcome {
    let made = kit.sandbox().await?;
    ensure!(made.ready, "not ready at return");
    let listed = kit.find_sandbox(&made.id).await?;
    ensure!(
        listed.as_ref() == Some(&made),
        "listed as {listed:?}, made as {made:?}"
    );
    kit.rt().stop_sandbox(&made.id).await.explain("stop_sandbox")?;
    let stopped = kit
        .find_sandbox(&made.id)
        .await?
        .ok_or("stopped sandbox is not listed")?;
    ensure!(!stopped.ready, "ready after stop");
    kit.rt()
        .stop_sandbox(&made.id)
        .await
        .explain("second stop_sandbox")?;
    kit.rt()
        .remove_sandbox(&made.id)
        .await
        .explain("remove_sandbox")?;
    ensure!(kit.find_sandbox(&made.id).await?.is_none(), "listed after remove");
    Ok(())
}

async fn remembers_what_it_was_given(kit: Kit<'_>) -> Outcome {
    let (spec, made) = (kit.sandbox_spec(), kit.sandbox().await?);
    ensure!(made.pod == spec.pod, "pod is {:?}", made.pod);
    ensure!(made.labels == spec.labels, "labels are {:?}", made.labels);
    ensure!(
        made.annotations == spec.annotations,
        "annotations are {:?}",
        made.annotations
    );
    ensure!(made.netns.is_some(), "no network namespace without host network");
    Ok(())
}

async fn identity_is_unique(kit: Kit<'_>) -> Outcome {
    let first = kit.sandbox().await?;
    match kit.rt().run_sandbox(&kit.sandbox_spec()).await {
        Err(RuntimeError::AlreadyExists { .. }) => {}
        other => return Err(format!("a second sandbox of the same identity: {other:?}")),
    }
    let mut spec = kit.sandbox_spec();
    spec.pod.attempt = 1;
    let second = kit
        .rt()
        .run_sandbox(&spec)
        .await
        .explain("run_sandbox of the next attempt")?;
    ensure!(first.id != second.id, "two sandboxes with ID {}", first.id);
    ensure!(
        kit.find_sandbox(&first.id).await?.is_some_and(|s| s.ready),
        "the first one is gone"
    );
    Ok(())
}

async fn stop_ends_containers(kit: Kit<'_>) -> Outcome {
    let (sandbox, id) = kit.running("a", Program::Deaf).await?;
    kit.rt().stop_sandbox(&sandbox.id).await.explain("stop_sandbox")?;
    let phase = kit.state(&id).await?.phase;
    ensure!(
        phase.exit().is_some(),
        "container is {phase:?} in a stopped sandbox"
    );
    match kit
        .rt()
        .create(&sandbox.id, &kit.spec("b", Program::UntilTerm))
        .await
    {
        Err(RuntimeError::WrongState { .. }) => Ok(()),
        other => Err(format!("create in a stopped sandbox: {other:?}")),
    }
}

async fn remove_removes_containers(kit: Kit<'_>) -> Outcome {
    let (sandbox, id) = kit.running("a", Program::Deaf).await?;
    kit.rt()
        .remove_sandbox(&sandbox.id)
        .await
        .explain("remove_sandbox of a running one")?;
    ensure!(kit.find(&id).await?.is_none(), "container outlives its sandbox");
    ensure!(
        kit.find_sandbox(&sandbox.id).await?.is_none(),
        "sandbox is listed after remove"
    );
    Ok(())
}

async fn absent_is_fine(kit: Kit<'_>) -> Outcome {
    let id = SandboxId("absent".into());
    kit.rt()
        .stop_sandbox(&id)
        .await
        .explain("stop_sandbox of an absent one")?;
    kit.rt()
        .remove_sandbox(&id)
        .await
        .explain("remove_sandbox of an absent one")?;
    match kit.rt().create(&id, &kit.spec("a", Program::UntilTerm)).await {
        Err(RuntimeError::NotFound { .. }) => Ok(()),
        other => Err(format!("create in an absent sandbox: {other:?}")),
    }
}

async fn survives_restart(kit: Kit<'_>) -> Outcome {
    let (sandbox, running) = kit.running("a", Program::UntilTerm).await?;
    let exited = kit.create(&sandbox.id, "b", Program::Exit(4)).await?;
    kit.rt().start(&exited).await.explain("start")?;
    kit.wait_exit(&exited).await?;
    let before = (
        kit.find_sandbox(&sandbox.id).await?,
        kit.state(&running).await?,
        kit.state(&exited).await?,
    );
    kit.harness.restart().await;
    let after = (
        kit.find_sandbox(&sandbox.id).await?,
        kit.state(&running).await?,
        kit.state(&exited).await?,
    );
    ensure!(before == after, "before {before:?}, after {after:?}");
    kit.rt()
        .stop(&running, std::time::Duration::from_secs(10))
        .await
        .explain("stop after restart")?;
    let exit = kit.wait_exit(&running).await?;
    ensure!(
        exit.code == 7,
        "exit code {} of a container adopted after a restart",
        exit.code
    );
    Ok(())
}
