//! Writing a pod's status: the newest wanted, one write at a time, again until it holds.

use super::{spec, status::status_patch};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use orch_core::{
    Api, Env,
    client::{ApiClient, Patch},
    spawn::TaskHandle,
    status::StatusReason,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

#[derive(Clone, Default)]
struct Wanted {
    number: u64,
    /// The object as last seen by the agent, and the status that it should have.
    pod: Option<(Arc<Pod>, PodStatus)>,
}

/// Writes the status of one pod in the background.
pub(crate) struct Publisher {
    wanted: watch::Sender<Wanted>,
    done: watch::Receiver<u64>,
    task: TaskHandle,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Publisher {
    pub(crate) fn new(env: &Env, client: Arc<dyn ApiClient>) -> Self {
        let (wanted, receiver) = watch::channel(Wanted::default());
        let (sender, done) = watch::channel(0);
        let task = run(env.clone(), client, receiver, sender);
        Self {
            wanted,
            done,
            task: env.spawner.spawn("pod status", Box::pin(task)),
        }
    }

    /// Wants this status from now on.
    pub(crate) fn publish(&self, pod: &Arc<Pod>, status: &PodStatus) {
        self.wanted.send_if_modified(|wanted| {
            let same = wanted
                .pod
                .as_ref()
                .is_some_and(|(p, s)| Arc::ptr_eq(p, pod) && s == status);
            if !same {
                *wanted = Wanted {
                    number: wanted.number + 1,
                    pod: Some((pod.clone(), status.clone())),
                };
            }
            !same
        });
    }

    /// Waits until what is wanted now has been written, or the pod is gone.
    pub(crate) async fn flush(&self) {
        let number = self.wanted.borrow().number;
        let mut done = self.done.clone();
        drop(done.wait_for(|n| *n >= number).await);
    }
}

fn version(pod: &Pod) -> u64 {
    pod.metadata
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

async fn run(
    env: Env,
    client: Arc<dyn ApiClient>,
    mut wanted: watch::Receiver<Wanted>,
    done: watch::Sender<u64>,
) {
    let mut written: Option<Arc<Pod>> = None;
    let mut delay = Duration::ZERO;
    loop {
        let Wanted { number, pod } = wanted.borrow_and_update().clone();
        if let Some((pod, status)) = pod {
            // The watch may lag behind our own last write.
            let base = match &written {
                Some(w) if version(w) > version(&pod) => w.clone(),
                _ => pod,
            };
            match write(&client, &base, &status).await {
                Ok(answer) => {
                    written = answer.or(written);
                    delay = Duration::ZERO;
                    done.send_replace(number);
                }
                Err(error) if matches!(error.reason, StatusReason::NotFound | StatusReason::Conflict) => {
                    // The pod, or the pod with this UID, is gone.
                    tracing::debug!(pod = %spec::describe(&base), %error, "no status to write any more");
                    done.send_replace(number);
                }
                Err(error) => {
                    tracing::warn!(pod = %spec::describe(&base), %error, "cannot write the pod's status");
                    delay = (delay * 2).clamp(Duration::from_millis(200), Duration::from_secs(10));
                    tokio::select! {
                        () = env.clock.sleep(delay) => continue,
                        changed = wanted.changed() => if changed.is_ok() { continue } else { return },
                    }
                }
            }
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

async fn write(
    client: &Arc<dyn ApiClient>,
    base: &Arc<Pod>,
    status: &PodStatus,
) -> Result<Option<Arc<Pod>>, orch_core::Status> {
    let Some(patch) = status_patch(spec::uid(base), spec::status(base), status) else {
        return Ok(None);
    };
    let pods = Api::<Pod>::namespaced(client.clone(), spec::namespace(base));
    pods.patch_subresource(spec::name(base), "status", Patch::strategic(patch))
        .await
        .map(Some)
}
