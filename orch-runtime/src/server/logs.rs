//! `/containerLogs`.

use super::{Body, Server, route::LogRequest, text};
use crate::{
    agent::{backoff::plus, spec},
    logs::{LogOptions, follow, rotated},
    runtime::{ContainerId, RuntimeEvent},
};
use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};
use std::{path::PathBuf, time::Duration};
use tokio::sync::mpsc;

/// ID of the container whose log is meant, from the pod's status.
///
/// # Errors
/// Why there is none yet, in upstream's words.
fn container_of(status: &PodStatus, pod: &str, name: &str, previous: bool) -> Result<String, String> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let found: Option<&ContainerStatus> = lists.into_iter().flatten().flatten().find(|s| s.name == name);
    let place = format!("container {name:?} in pod {pod:?}");
    let found = found.ok_or_else(|| format!("{place} is not available"))?;
    let (state, last) = (
        found.state.clone().unwrap_or_default(),
        found.last_state.clone().unwrap_or_default(),
    );
    let id = |t: Option<k8s_openapi::api::core::v1::ContainerStateTerminated>| {
        t.and_then(|t| t.container_id).filter(|id| !id.is_empty())
    };
    let has_last = last.terminated.is_some();
    let last = id(last.terminated);
    if previous {
        return last.ok_or_else(|| format!("previous terminated {place} not found"));
    }
    let over = || format!("{place} is terminated");
    if state.running.is_some() {
        return found.container_id.clone().ok_or_else(over);
    }
    if state.terminated.is_some() {
        return id(state.terminated).or(last).ok_or_else(over);
    }
    if has_last {
        return last.ok_or_else(over);
    }
    Err(match state.waiting.and_then(|w| w.reason).as_deref() {
        Some("ErrImagePull") => format!("{place} is waiting to start: image can't be pulled"),
        Some("ImagePullBackOff") => format!("{place} is waiting to start: trying and failing to pull image"),
        Some(reason) => format!("{place} is waiting to start: {reason}"),
        None => format!("{place} is waiting to start - no logs yet"),
    })
}

impl Server {
    pub(super) async fn logs(
        &self,
        namespace: &str,
        name: &str,
        container: &str,
        request: LogRequest,
        previous: bool,
    ) -> Response<Body> {
        let Some(pod) = self.view.pod(namespace, name) else {
            return text(StatusCode::NOT_FOUND, format!("pod {name:?} does not exist"));
        };
        if spec::find_container(&pod, container).is_none() {
            let message = format!("container {container:?} not found in pod {name:?}");
            return text(StatusCode::NOT_FOUND, message);
        }
        let status = self.view.status(&pod);
        let id = match container_of(&status, name, container, previous) {
            Ok(id) => ContainerId(id.rsplit_once("://").map_or(id.clone(), |(_, id)| id.to_owned())),
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let listed = self.view.runtime().list().await.unwrap_or_default();
        let Some(found) = listed.into_iter().find(|c| c.id == id) else {
            return text(
                StatusCode::BAD_REQUEST,
                format!("unable to retrieve container logs for {id}"),
            );
        };
        let env = self.view.env().clone();
        let mut options = request.options;
        if let Some(seconds) = request.since_seconds {
            let age = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            options.since = env.clock.now().checked_sub(age).ok().or(options.since);
        }
        let running = found.phase.is_running();
        options.follow &= running;
        let (sender, receiver) = mpsc::channel::<Bytes>(16);
        let ended = self.ended(id, running);
        let path = found.log_path;
        let (spawner, task_env) = (env.spawner.clone(), env.clone());
        let task = async move {
            let (older, options) = older_files(&path, options);
            for file in older {
                let one = LogOptions {
                    follow: false,
                    tail_lines: None,
                    ..options.clone()
                };
                if follow(&task_env, file, one, std::future::ready(()), sender.clone())
                    .await
                    .is_err()
                {
                    return;
                }
            }
            if let Err(error) = follow(&task_env, path.clone(), options, ended, sender).await {
                tracing::warn!(path = %path.display(), %error, "cannot read a log");
            }
        };
        spawner.spawn("log", Box::pin(task));
        let chunks = tokio_stream(receiver).map(|chunk| Ok(Frame::data(chunk)));
        let mut response = Response::new(BodyExt::boxed(StreamBody::new(chunks)));
        let plain = header::HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }

    /// Completes when the container has ended and its last output had a moment to arrive.
    fn ended(&self, id: ContainerId, running: bool) -> impl Future<Output = ()> + Send + 'static {
        let mut events = self.view.runtime().subscribe();
        let (runtime, clock) = (self.view.runtime().clone(), self.view.env().clock.clone());
        async move {
            let runs = async || {
                let listed = runtime.list().await.unwrap_or_default();
                listed.iter().any(|c| c.id == id && c.phase.is_running())
            };
            // It may have ended between the look and the subscription.
            if running && runs().await {
                while let Some(event) = events.next().await {
                    let may_be_ours = match &event {
                        RuntimeEvent::Exited { id: of, .. } => *of == id,
                        RuntimeEvent::Lagged => !runs().await,
                        _ => false,
                    };
                    if may_be_ours {
                        break;
                    }
                }
            }
            clock.sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Rotated files that belong to what is asked for: those since a time, or all if everything is asked for. With a tail
/// only the present file counts, as upstream's does.
fn older_files(path: &std::path::Path, options: LogOptions) -> (Vec<PathBuf>, LogOptions) {
    if options.tail_lines.is_some() || options.limit_bytes.is_some() || options.since.is_none() {
        return (Vec::new(), options);
    }
    let since = options.since;
    let newer = |file: &PathBuf| {
        let modified = std::fs::metadata(file).and_then(|m| m.modified()).ok();
        let modified = modified.and_then(|t| jiff::Timestamp::try_from(t).ok());
        modified
            .zip(since)
            .is_some_and(|(m, s)| plus(m, Duration::ZERO) >= s)
    };
    (rotated(path).into_iter().filter(newer).collect(), options)
}

/// A channel as a stream.
fn tokio_stream(receiver: mpsc::Receiver<Bytes>) -> impl futures::Stream<Item = Bytes> + Send + Sync {
    futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn which_container_is_meant() {
        let of = |state: Value, last: Value, previous: bool| {
            let status: PodStatus = serde_json::from_value(json!({"containerStatuses": [{"name": "c", "image": "",
                "imageID": "", "ready": false, "restartCount": 0, "containerID": "r://now", "state": state, "lastState": last}]}))
            .unwrap();
            container_of(&status, "p", "c", previous)
        };
        let ended = |id: &str| json!({"terminated": {"exitCode": 1, "containerID": id}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let now = || Ok("r://now".to_owned());
        assert_eq!(of(json!({"running": {}}), json!({}), false), now());
        assert_eq!(of(ended("r://now"), json!({}), false), now());
        assert_eq!(
            of(waiting("CrashLoopBackOff"), ended("r://old"), false),
            Ok("r://old".into())
        );
        assert_eq!(
            of(json!({"running": {}}), ended("r://old"), true),
            Ok("r://old".into())
        );
        let place = "container \"c\" in pod \"p\"";
        assert_eq!(
            of(json!({"running": {}}), json!({}), true),
            Err(format!("previous terminated {place} not found"))
        );
        assert_eq!(
            of(waiting("ContainerCreating"), json!({}), false),
            Err(format!("{place} is waiting to start: ContainerCreating"))
        );
        assert_eq!(
            of(waiting("ImagePullBackOff"), json!({}), false),
            Err(format!(
                "{place} is waiting to start: trying and failing to pull image"
            ))
        );
    }
}
