//! `postStart` and `preStop` hooks.

use super::{context::Context, spec};
use crate::{
    probe::{Outcome, Subject, http_target, port_of},
    runtime::ContainerId,
};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use std::time::Duration;

/// An HTTP hook that gets no answer for so long has failed.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a hook to its end.
///
/// # Errors
/// Why it failed; for the pod's status, not for events, since it may contain what the program printed.
pub(crate) async fn run(
    ctx: &Context,
    pod: &Pod,
    container: &Container,
    id: &ContainerId,
    pod_ip: &str,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    let place = format!(
        "for Container {:?} in Pod {:?} failed - error:",
        container.name,
        spec::describe(pod)
    );
    let subject = Subject {
        pod_uid: spec::uid(pod).into(),
        container: container.name.clone(),
    };
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let what = format!("Exec lifecycle hook ([{}]) {place}", command.join(" "));
        return match ctx.runtime.exec_sync(id, &command, None).await {
            Ok(out) if out.code == 0 => Ok(()),
            Ok(out) => {
                let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
                let why = format!("command '{}' exited with {}", command.join(" "), out.code);
                Err(format!("{what} {why}, message: {text:?}"))
            }
            Err(error) => Err(format!("{what} {error}, message: \"\"")),
        };
    }
    let outcome = if let Some(action) = &hook.http_get {
        let target = http_target(action, container, pod_ip, "kube-lifecycle")?;
        // Any answer will do; only a failure to get one counts.
        match ctx.transport.http(&subject, &target, HTTP_TIMEOUT).await {
            Outcome::Failure(why) if why.starts_with("HTTP probe failed with statuscode") => Outcome::Success,
            Outcome::Failure(why) => {
                let path = action.path.as_deref().unwrap_or("");
                Outcome::Failure(format!("HTTP lifecycle hook ({path}) {place} {why}"))
            }
            other => other,
        }
    } else if let Some(action) = &hook.tcp_socket {
        let host = action.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
        ctx.transport
            .tcp(&subject, host, port_of(&action.port, container)?, HTTP_TIMEOUT)
            .await
    } else if let Some(sleep) = &hook.sleep {
        ctx.env
            .clock
            .sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0)))
            .await;
        Outcome::Success
    } else {
        return Err("Cannot run handler: invalid handler".into());
    };
    match outcome {
        Outcome::Success | Outcome::Warning(_) => Ok(()),
        Outcome::Failure(why) | Outcome::Error(why) => Err(why),
    }
}
