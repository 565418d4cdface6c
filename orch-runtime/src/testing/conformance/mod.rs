//! What every [`Runtime`] must do, as cases that any implementor runs.
//!
//! ```text
//! let report = orch_runtime::testing::conformance::run(&my_harness).await;
//! report.assert_passed();
//! ```
//!
//! Programs are `sh -c` texts that a POSIX shell and the simulated runtime's language both understand, so one suite
//! serves runtimes with real processes and without.

mod containers;
mod images;
mod sandboxes;
mod streams;

use crate::runtime::{
    ContainerId, ContainerPhase, ContainerSpec, ContainerState, Exit, PodIdentity, Runtime, RuntimeError,
    SandboxId, SandboxSpec, SandboxState,
};
use async_trait::async_trait;
use futures::future::BoxFuture;
use orch_core::Env;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// What the kit needs to know of an implementor.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The runtime under test. After [`Harness::restart`] it is the new one.
    fn runtime(&self) -> Arc<dyn Runtime>;
    /// Clock, randomness and spawning. The kit's timeouts run on it.
    fn env(&self) -> Env;
    /// A directory of the test, for logs and mounts; it exists.
    fn dir(&self) -> PathBuf;
    /// A reference to an image with a POSIX shell as `sh`, `echo`, `cat` and `sleep`; present in the store.
    fn image(&self) -> String;
    /// Makes the runtime anew over the same state, as a restarted agent does.
    async fn restart(&self);
    /// Whether the case of this name applies (a CRI runtime may pull where a local one can't).
    fn applies(&self, _case: &str) -> bool {
        true
    }
}

/// Why a case failed.
pub type Failure = String;
/// Result of a case.
pub type Outcome = Result<(), Failure>;

/// One promise of the seam.
pub struct Case {
    /// Name, `group::promise`.
    pub name: &'static str,
    run: fn(Kit<'_>) -> BoxFuture<'_, Outcome>,
}

/// Which cases passed and which failed, in order.
#[derive(Debug, Default)]
pub struct Report {
    /// Names of the cases that passed.
    pub passed: Vec<&'static str>,
    /// Names of the cases that failed, with why.
    pub failed: Vec<(&'static str, Failure)>,
}

impl Report {
    /// Ends the test if a case failed.
    ///
    /// # Panics
    /// If a case failed, with all failures.
    pub fn assert_passed(&self) {
        let failures: Vec<String> = self
            .failed
            .iter()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        assert!(
            failures.is_empty(),
            "runtime conformance:\n{}",
            failures.join("\n")
        );
        assert!(!self.passed.is_empty(), "no case ran");
    }
}

/// All cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    [sandboxes::all(), containers::all(), images::all(), streams::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// Runs all cases that apply, one after another.
pub async fn run(harness: &dyn Harness) -> Report {
    let mut report = Report::default();
    for (number, case) in cases().into_iter().enumerate() {
        if !harness.applies(case.name) {
            continue;
        }
        let kit = Kit { harness, number };
        let limit = harness.env().clock.sleep(Duration::from_secs(60));
        let outcome = tokio::select! {
            outcome = (case.run)(kit) => outcome,
            () = limit => Err("did not end within a minute".into()),
        };
        match outcome {
            Ok(()) => report.passed.push(case.name),
            Err(why) => report.failed.push((case.name, why)),
        }
        kit.clean_up().await;
    }
    report
}

macro_rules! cases {
    ($group:literal: $($name:ident),* $(,)?) => {
        pub(super) fn all() -> Vec<super::Case> {
            vec![$(super::Case {
                name: concat!($group, "::", stringify!($name)),
                run: |kit| Box::pin($name(kit)),
            }),*]
        }
    };
}
macro_rules! ensure {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}
use {cases as promises, ensure};

/// A program for a container.
#[derive(Clone, Copy)]
enum Program {
    /// Runs until it gets SIGTERM, then exits with 7.
    UntilTerm,
    /// Ignores SIGTERM.
    Deaf,
    /// Prints `one`, `two words` and exits with 0.
    Print,
    /// Exits with this code.
    Exit(i32),
    /// Copies input to output.
    Cat,
    /// Does not exist.
    Missing,
}

#[derive(Clone, Copy)]
struct Kit<'a> {
    harness: &'a dyn Harness,
    number: usize,
}

trait Explain<T> {
    fn explain(self, what: &str) -> Result<T, Failure>;
}
impl<T> Explain<T> for Result<T, RuntimeError> {
    fn explain(self, what: &str) -> Result<T, Failure> {
        self.map_err(|e| format!("{what}: {e}"))
    }
}

impl Kit<'_> {
    fn rt(&self) -> Arc<dyn Runtime> {
        self.harness.runtime()
    }

    fn uid(&self) -> String {
        format!("conformance-{}", self.number)
    }

    fn sandbox_spec(&self) -> SandboxSpec {
        SandboxSpec {
            pod: PodIdentity {
                namespace: "conformance".into(),
                name: format!("pod-{}", self.number),
                uid: self.uid(),
                attempt: 0,
            },
            hostname: format!("pod-{}", self.number),
            log_directory: self.harness.dir(),
            labels: [("io.kubernetes.pod.uid".to_owned(), self.uid())].into(),
            annotations: [("a/b".to_owned(), "c d".to_owned())].into(),
            ..SandboxSpec::default()
        }
    }

    fn spec(&self, name: &str, program: Program) -> ContainerSpec {
        let sh = |text: String| vec!["sh".to_owned(), "-c".to_owned(), text];
        let command = match program {
            Program::UntilTerm => sh("trap 'exit 7' TERM; sleep 3600 & wait".into()),
            Program::Deaf => sh("trap '' TERM; sleep 3600".into()),
            Program::Print => sh("echo one; echo two words".into()),
            Program::Exit(code) => sh(format!("exit {code}")),
            Program::Cat => sh("cat".into()),
            Program::Missing => vec!["/nonexistent/program".to_owned()],
        };
        ContainerSpec {
            name: name.into(),
            image: self.harness.image(),
            command,
            labels: [("io.kubernetes.container.name".to_owned(), name.to_owned())].into(),
            annotations: [("x".to_owned(), "y".to_owned())].into(),
            log_path: self.harness.dir().join(format!("{}-{name}.log", self.number)),
            ..ContainerSpec::default()
        }
    }

    async fn sandbox(&self) -> Result<SandboxState, Failure> {
        self.rt()
            .run_sandbox(&self.sandbox_spec())
            .await
            .explain("run_sandbox")
    }

    async fn create(
        &self,
        sandbox: &SandboxId,
        name: &str,
        program: Program,
    ) -> Result<ContainerId, Failure> {
        self.rt()
            .create(sandbox, &self.spec(name, program))
            .await
            .explain("create")
    }

    async fn running(&self, name: &str, program: Program) -> Result<(SandboxState, ContainerId), Failure> {
        let sandbox = self.sandbox().await?;
        let id = self.create(&sandbox.id, name, program).await?;
        self.rt().start(&id).await.explain("start")?;
        Ok((sandbox, id))
    }

    async fn find(&self, id: &ContainerId) -> Result<Option<ContainerState>, Failure> {
        Ok(self
            .rt()
            .list()
            .await
            .explain("list")?
            .into_iter()
            .find(|c| c.id == *id))
    }

    async fn state(&self, id: &ContainerId) -> Result<ContainerState, Failure> {
        self.find(id)
            .await?
            .ok_or_else(|| format!("container {id} is not listed"))
    }

    async fn find_sandbox(&self, id: &SandboxId) -> Result<Option<SandboxState>, Failure> {
        Ok(self
            .rt()
            .list_sandboxes()
            .await
            .explain("list_sandboxes")?
            .into_iter()
            .find(|s| s.id == *id))
    }

    /// Waits for the end of a container by looking at it, so that a broken event stream fails only its own case.
    async fn wait_exit(&self, id: &ContainerId) -> Result<Exit, Failure> {
        for _ in 0..1000 {
            if let ContainerPhase::Exited(exit) = self.state(id).await?.phase {
                return Ok(exit);
            }
            self.harness.env().clock.sleep(Duration::from_millis(20)).await;
        }
        Err(format!("container {id} did not exit"))
    }

    async fn clean_up(&self) {
        let Ok(sandboxes) = self.rt().list_sandboxes().await else {
            return;
        };
        for sandbox in sandboxes.into_iter().filter(|s| s.pod.uid == self.uid()) {
            drop(self.rt().remove_sandbox(&sandbox.id).await);
        }
    }
}
