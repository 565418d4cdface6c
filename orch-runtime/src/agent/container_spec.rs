//! From a pod's container to what the runtime is asked for; pure.

use super::{
    resources,
    spec::{self, ContainerKind},
    view::{
        APPLIED, CONTAINER_NAME, IMAGE_ASKED, IMAGE_NAME, IMAGE_REF, NODE, POD_NAME, POD_NAMESPACE, POD_UID,
        RESTART_COUNT, TERMINATION_FILE, TERMINATION_POLICY,
    },
};
use crate::{
    env::expand,
    runtime::{
        ContainerId, ContainerSpec, Device, Image, Mount, PidNamespace, PodIdentity, SandboxSpec, Seccomp,
        Security,
    },
};
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext};
use std::{collections::BTreeMap, path::PathBuf};

/// What the agent has prepared for a container.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// Its pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Its list.
    pub kind: ContainerKind,
    /// How many of its name came before.
    pub attempt: u32,
    /// Its image.
    pub image: &'a Image,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its log file.
    pub log_path: PathBuf,
    /// File of the machine that takes its termination message; empty for none.
    pub termination_file: PathBuf,
    /// Control group of its pod.
    pub cgroup_parent: String,
    /// Container whose processes it shares (ephemeral containers).
    pub target: Option<ContainerId>,
    /// Memory of the node in bytes.
    pub memory_capacity_bytes: u64,
    /// Directory of seccomp profiles.
    pub seccomp_dir: PathBuf,
}

fn non_root(p: &Prepared<'_>) -> Result<(), String> {
    let own = p.container.security_context.clone().unwrap_or_default();
    let shared = spec::spec(p.pod).security_context.clone().unwrap_or_default();
    if !own.run_as_non_root.or(shared.run_as_non_root).unwrap_or(false) {
        return Ok(());
    }
    let place = format!(
        "(pod: {:?}, container: {})",
        spec::describe(p.pod),
        p.container.name
    );
    match own.run_as_user.or(shared.run_as_user) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy {place}")),
        Some(_) => return Ok(()),
        None => {}
    }
    match (p.image.uid, p.image.username.as_str()) {
        (Some(0), _) | (None, "") => Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        )),
        (Some(_), _) => Ok(()),
        (None, name) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        )),
    }
}

fn seccomp(profile: Option<&SeccompProfile>, dir: &std::path::Path) -> Result<Seccomp, String> {
    let Some(profile) = profile else {
        return Ok(Seccomp::Unconfined);
    };
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        "Unconfined" => Ok(Seccomp::Unconfined),
        "Localhost" => match profile.localhost_profile.as_deref() {
            Some(file) if !file.is_empty() && !file.split('/').any(|p| p == "..") => {
                Ok(Seccomp::Localhost(dir.join(file.trim_start_matches('/'))))
            }
            _ => Err("localhostProfile must be set if seccompProfile type is Localhost.".into()),
        },
        other => Err(format!("unknown seccomp profile type {other:?}")),
    }
}

fn ids(list: impl IntoIterator<Item = i64>) -> Vec<u32> {
    list.into_iter().filter_map(|id| u32::try_from(id).ok()).collect()
}

fn security(p: &Prepared<'_>) -> Result<Security, String> {
    non_root(p)?;
    let own: SecurityContext = p.container.security_context.clone().unwrap_or_default();
    let shared: PodSecurityContext = spec::spec(p.pod).security_context.clone().unwrap_or_default();
    let id = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let plain = |list: Option<Vec<String>>| -> Vec<String> {
        list.unwrap_or_default()
            .iter()
            .map(|c| c.trim_start_matches("CAP_").to_owned())
            .collect()
    };
    let profile = own.seccomp_profile.as_ref().or(shared.seccomp_profile.as_ref());
    let apparmor = own
        .app_armor_profile
        .as_ref()
        .or(shared.app_armor_profile.as_ref());
    let apparmor = apparmor.map_or(String::new(), |a| match a.type_.as_str() {
        "Localhost" => a.localhost_profile.clone().unwrap_or_default(),
        "Unconfined" => "unconfined".into(),
        _ => String::new(),
    });
    let groups = shared
        .fs_group
        .into_iter()
        .chain(shared.supplemental_groups.clone().unwrap_or_default());
    Ok(Security {
        user: id(own.run_as_user.or(shared.run_as_user)),
        group: id(own.run_as_group.or(shared.run_as_group)),
        supplemental_groups: ids(groups),
        merge_image_groups: shared.supplemental_groups_policy.as_deref() != Some("Strict"),
        privileged,
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        add_capabilities: plain(capabilities.add),
        drop_capabilities: plain(capabilities.drop),
        seccomp: if privileged {
            Seccomp::Unconfined
        } else {
            seccomp(profile, &p.seccomp_dir)?
        },
        apparmor_profile: apparmor,
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    })
}

fn labels(pod: &Pod, node: &str) -> BTreeMap<String, String> {
    let mut labels = pod.metadata.labels.clone().unwrap_or_default();
    for (key, value) in [
        (POD_NAME, spec::name(pod)),
        (POD_NAMESPACE, spec::namespace(pod)),
        (POD_UID, spec::uid(pod)),
        (NODE, node),
    ] {
        labels.insert(key.into(), value.into());
    }
    labels
}

/// What the runtime is asked for.
///
/// # Errors
/// The message of a `CreateContainerConfigError`.
pub fn container_spec(p: Prepared<'_>, node: &str) -> Result<ContainerSpec, String> {
    let security = security(&p)?;
    let pod_spec = spec::spec(p.pod);
    let lookup = |name: &str| {
        p.env
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| expand(word, lookup)).collect()
    };
    let c = p.container;
    let mut labels = labels(p.pod, node);
    labels.insert(CONTAINER_NAME.into(), c.name.clone());
    let asked = c.image.clone().unwrap_or_default();
    let policy = c
        .termination_message_policy
        .clone()
        .unwrap_or_else(|| "File".into());
    let annotations = [
        (RESTART_COUNT, p.attempt.to_string()),
        (IMAGE_ASKED, asked.clone()),
        (IMAGE_NAME, image_name(p.image, &asked)),
        (IMAGE_REF, p.image.digests.first().unwrap_or(&p.image.id).clone()),
        (
            TERMINATION_FILE,
            p.termination_file.to_string_lossy().into_owned(),
        ),
        (TERMINATION_POLICY, policy),
        (
            APPLIED,
            serde_json::to_string(&c.resources.clone().unwrap_or_default()).unwrap_or_default(),
        ),
    ];
    let pid = match p.target {
        _ if pod_spec.host_pid.unwrap_or(false) => PidNamespace::Host,
        Some(id) => PidNamespace::Target(id),
        None if pod_spec.share_process_namespace.unwrap_or(false) => PidNamespace::Pod,
        None => PidNamespace::Container,
    };
    Ok(ContainerSpec {
        name: c.name.clone(),
        attempt: p.attempt,
        image: asked,
        command: expanded(&c.command),
        args: expanded(&c.args),
        working_dir: c.working_dir.clone().unwrap_or_default(),
        labels,
        annotations: annotations.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        devices: Vec::<Device>::new(),
        resources: resources::container_resources(p.pod, c, p.memory_capacity_bytes),
        security,
        pid,
        tty: c.tty.unwrap_or(false),
        stdin: c.stdin.unwrap_or(false),
        stdin_once: c.stdin_once.unwrap_or(false),
        stop_signal: c.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
        env: p.env,
        mounts: p.mounts,
        log_path: p.log_path,
        cgroup_parent: p.cgroup_parent,
    })
}

/// Name of the image for the status: the tag that was asked for, in full, or any.
fn image_name(image: &Image, asked: &str) -> String {
    let ends = |tag: &&String| {
        let with_tag = if asked.rsplit('/').next().is_some_and(|n| n.contains(':')) {
            asked.to_owned()
        } else {
            format!("{asked}:latest")
        };
        tag.as_str() == with_tag || tag.ends_with(&format!("/{with_tag}"))
    };
    image
        .tags
        .iter()
        .find(ends)
        .or(image.tags.first())
        .cloned()
        .unwrap_or_else(|| asked.to_owned())
}

/// The sandbox that the pod needs.
#[must_use]
pub fn sandbox_spec(
    pod: &Pod,
    attempt: u32,
    node: &str,
    hostname: &str,
    log_directory: PathBuf,
    pids_limit: Option<u64>,
    cgroup_parent: String,
) -> SandboxSpec {
    let s = spec::spec(pod);
    let sysctls = s.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    let all = s.containers.iter().chain(spec::init_containers(s));
    let mut privileged = all.filter_map(|c| c.security_context.as_ref());
    SandboxSpec {
        pod: PodIdentity {
            namespace: spec::namespace(pod).into(),
            name: spec::name(pod).into(),
            uid: spec::uid(pod).into(),
            attempt,
        },
        hostname: if spec::host_network(pod) {
            String::new()
        } else {
            hostname.into()
        },
        log_directory,
        labels: labels(pod, node),
        annotations: pod.metadata.annotations.clone().unwrap_or_default(),
        host_network: spec::host_network(pod),
        host_ipc: s.host_ipc.unwrap_or(false),
        pid: match () {
            () if s.host_pid.unwrap_or(false) => PidNamespace::Host,
            () if s.share_process_namespace.unwrap_or(false) => PidNamespace::Pod,
            () => PidNamespace::Container,
        },
        sysctls: sysctls
            .map(|s| (s.name.replace('/', "."), s.value.clone()))
            .collect(),
        cgroup_parent,
        resources: resources::pod_resources(pod, pids_limit),
        privileged: privileged.any(|c| c.privileged.unwrap_or(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(spec: Value, image: Image) -> Result<ContainerSpec, String> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}),
        )
        .unwrap();
        let container = spec::spec(&pod).containers[0].clone();
        let prepared = Prepared {
            pod: &pod,
            container: &container,
            kind: ContainerKind::App,
            attempt: 2,
            image: &image,
            env: vec![("A".into(), "1".into())],
            mounts: vec![],
            log_path: "/l".into(),
            termination_file: "/t".into(),
            cgroup_parent: String::new(),
            target: None,
            memory_capacity_bytes: 1 << 30,
            seccomp_dir: "/seccomp".into(),
        };
        container_spec(prepared, "node")
    }

    #[test]
    fn the_container_overrides_the_pod() {
        let c = made(
            json!({"shareProcessNamespace": true, "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3,
                    "supplementalGroups": [4], "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": "a", "image": "web", "command": ["x", "$(A)", "$(B)"], "args": ["$$(A)"],
                    "securityContext": {"runAsUser": 9, "allowPrivilegeEscalation": false,
                        "capabilities": {"add": ["CAP_NET_ADMIN"], "drop": ["ALL"]}}}]}),
            Image { id: "sha256:1".into(), tags: vec!["docker.io/library/web:latest".into()], ..Image::default() },
        )
        .unwrap();
        assert_eq!(c.command, ["x", "1", "$(B)"]);
        assert_eq!(c.args, ["$(A)"]);
        let s = &c.security;
        assert_eq!(
            (s.user, s.group, &s.supplemental_groups[..]),
            (Some(9), Some(2), &[3, 4][..])
        );
        assert!(s.no_new_privs && s.merge_image_groups);
        assert_eq!(
            (&s.add_capabilities[..], &s.drop_capabilities[..]),
            (&["NET_ADMIN".to_owned()][..], &["ALL".to_owned()][..])
        );
        assert_eq!(
            (s.seccomp.clone(), c.pid.clone()),
            (Seccomp::RuntimeDefault, PidNamespace::Pod)
        );
        assert_eq!(c.annotations[IMAGE_NAME], "docker.io/library/web:latest");
        assert_eq!(c.annotations[IMAGE_REF], "sha256:1");
        assert_eq!(c.annotations[RESTART_COUNT], "2");
        assert_eq!(c.labels[POD_UID], "u");
    }

    #[test]
    fn non_root() {
        let image = |uid, name: &str| Image {
            uid,
            username: name.into(),
            ..Image::default()
        };
        let spec = |user: Value| json!({"containers": [{"name": "a", "securityContext": {"runAsNonRoot": true, "runAsUser": user}}]});
        for (spec, image, expected) in [
            (spec(json!(1000)), image(Some(0), ""), None),
            (
                spec(json!(0)),
                image(Some(5), ""),
                Some("container's runAsUser breaks non-root policy"),
            ),
            (spec(Value::Null), image(Some(5), ""), None),
            (
                spec(Value::Null),
                image(None, ""),
                Some("container has runAsNonRoot and image will run as root"),
            ),
            (
                spec(Value::Null),
                image(None, "web"),
                Some("container has runAsNonRoot and image has non-numeric user (web)"),
            ),
        ] {
            let got = made(spec.clone(), image).err();
            match expected {
                None => assert_eq!(got, None, "{spec}"),
                Some(start) => assert!(
                    got.as_deref().is_some_and(|g| g.starts_with(start)),
                    "{spec}: {got:?}"
                ),
            }
        }
    }
}
