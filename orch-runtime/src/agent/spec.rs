//! Readings of a pod's specification that the API types leave to their users.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec, PodStatus};

/// Which list of the pod a container stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContainerKind {
    /// `initContainers`, sidecars included.
    Init,
    /// `containers`.
    App,
    /// `ephemeralContainers`.
    Ephemeral,
}

/// Name of the pod.
#[must_use]
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or("")
}
/// Namespace of the pod.
#[must_use]
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("")
}
/// UID of the pod.
#[must_use]
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or("")
}
/// How messages name a pod: `name_namespace(uid)`.
#[must_use]
pub fn describe(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
static NO_STATUS: std::sync::LazyLock<PodStatus> = std::sync::LazyLock::new(PodStatus::default);

/// Specification of the pod, empty if it has none.
#[must_use]
pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}
/// Status of the pod, empty if it has none.
#[must_use]
pub fn status(pod: &Pod) -> &PodStatus {
    pod.status.as_ref().unwrap_or(&NO_STATUS)
}
/// Init containers, sidecars included.
#[must_use]
pub fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}
/// Ephemeral containers.
#[must_use]
pub fn ephemeral_containers(spec: &PodSpec) -> &[EphemeralContainer] {
    spec.ephemeral_containers.as_deref().unwrap_or_default()
}
/// Whether the pod uses the machine's network.
#[must_use]
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}
/// Whether deletion was asked for.
#[must_use]
pub fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}
/// Whether a phase is final.
#[must_use]
pub fn is_terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}
/// Whether an init container is restartable: a sidecar (KEP-753).
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether a container that ended with `code` is started again, by its rules, its own policy, the pod's policy
/// (KEP-5307). A pod without a policy restarts always.
#[must_use]
pub fn should_restart(container: &Container, spec: &PodSpec, code: i32) -> bool {
    let by = |policy: &str| match policy {
        "Always" => Some(true),
        "OnFailure" => Some(code != 0),
        "Never" => Some(false),
        _ => None,
    };
    if let Some(policy) = container.restart_policy.as_deref() {
        let rules = container.restart_policy_rules.as_deref().unwrap_or_default();
        let matching = rules.iter().find(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let listed = codes.values.as_deref().unwrap_or_default().contains(&code);
                match codes.operator.as_str() {
                    "In" => listed,
                    "NotIn" => !listed,
                    _ => false,
                }
            })
        });
        if matching.is_some_and(|rule| rule.action == "Restart") {
            return true;
        }
        if let Some(restart) = by(policy) {
            return restart;
        }
    }
    by(spec.restart_policy.as_deref().unwrap_or("Always")).unwrap_or(true)
}

/// Whether a running container that was killed for a failed probe is started again: policies only, no rules.
#[must_use]
pub fn restarts_after_kill(container: &Container, spec: &PodSpec) -> bool {
    let policy = container
        .restart_policy
        .as_deref()
        .or(spec.restart_policy.as_deref());
    policy != Some("Never")
}

/// An ephemeral container in the form of an ordinary one.
#[must_use]
pub fn from_ephemeral(e: &EphemeralContainer) -> Container {
    Container {
        args: e.args.clone(),
        command: e.command.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        image: e.image.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        lifecycle: e.lifecycle.clone(),
        name: e.name.clone(),
        ports: e.ports.clone(),
        resources: e.resources.clone(),
        // An ephemeral container is never started again.
        restart_policy: Some("Never".into()),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        tty: e.tty,
        volume_devices: e.volume_devices.clone(),
        volume_mounts: e.volume_mounts.clone(),
        working_dir: e.working_dir.clone(),
        ..Container::default()
    }
}

/// The container of this name, whichever list it is in, with its list and index.
#[must_use]
pub fn find_container(pod: &Pod, name: &str) -> Option<(ContainerKind, usize, Container)> {
    let spec = spec(pod);
    let app = spec
        .containers
        .iter()
        .enumerate()
        .map(|(i, c)| (ContainerKind::App, i, c));
    let init = init_containers(spec)
        .iter()
        .enumerate()
        .map(|(i, c)| (ContainerKind::Init, i, c));
    app.chain(init)
        .find(|(_, _, c)| c.name == name)
        .map(|(k, i, c)| (k, i, c.clone()))
        .or_else(|| {
            let mut ephemeral = ephemeral_containers(spec).iter().enumerate();
            let (i, e) = ephemeral.find(|(_, e)| e.name == name)?;
            Some((ContainerKind::Ephemeral, i, from_ephemeral(e)))
        })
}

/// Path of a container in the pod, as events name it: `spec.containers{web}`.
#[must_use]
pub fn field_path(kind: ContainerKind, name: &str) -> String {
    let list = match kind {
        ContainerKind::Init => "initContainers",
        ContainerKind::App => "containers",
        ContainerKind::Ephemeral => "ephemeralContainers",
    };
    format!("spec.{list}{{{name}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn restart_rules_policies_and_their_order() {
        let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
        for (container, pod, code, expected) in [
            (json!({"name": "a"}), "Always", 0, true),
            (json!({"name": "a"}), "OnFailure", 0, false),
            (json!({"name": "a"}), "OnFailure", 1, true),
            (json!({"name": "a"}), "Never", 1, false),
            (json!({"name": "a", "restartPolicy": "Never"}), "Always", 1, false),
            (json!({"name": "a", "restartPolicy": "Always"}), "Never", 0, true),
            (
                json!({"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}),
                "Never",
                42,
                true,
            ),
            (
                json!({"name": "a", "restartPolicy": "Never", "restartPolicyRules": rules}),
                "Always",
                1,
                false,
            ),
            // Rules need a policy of the container.
            (
                json!({"name": "a", "restartPolicyRules": rules}),
                "Never",
                42,
                false,
            ),
        ] {
            let c: Container = serde_json::from_value(container.clone()).unwrap();
            let spec = PodSpec {
                restart_policy: Some(pod.into()),
                ..PodSpec::default()
            };
            assert_eq!(
                should_restart(&c, &spec, code),
                expected,
                "{container} in {pod} with {code}"
            );
        }
    }
}
