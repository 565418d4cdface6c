//! What each volume of a pod is; pure.

use super::{
    VolumeError,
    payload::{self, Payload, TokenNeed},
};
use crate::{
    agent::spec,
    env::{NodeFacts, Sources},
};
use k8s_openapi::api::core::v1::{Pod, Volume};
use orch_core::quantity::Quantity;
use std::{collections::BTreeMap, path::PathBuf};

/// What must be at a `hostPath`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPathType {
    /// Anything, or nothing yet: no check.
    Unset,
    /// A directory, made if nothing is there.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file, made if nothing is there.
    FileOrCreate,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What a volume is on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumePlan {
    /// An empty directory of the pod.
    EmptyDir {
        /// In memory.
        memory: bool,
        /// Size limit in bytes; enforced by the file system if it is in memory.
        limit_bytes: Option<u64>,
    },
    /// A path of the machine.
    HostPath {
        /// The path.
        path: PathBuf,
        /// What must be there.
        check: HostPathType,
    },
    /// Files, swapped as a whole. Containers get them read-only.
    Files {
        /// Sort of the volume, as it stands in the path: `kubernetes.io~configmap`.
        sort: &'static str,
        /// The files.
        files: Payload,
    },
}

fn host_path_type(text: Option<&str>) -> Option<HostPathType> {
    Some(match text.unwrap_or("") {
        "" => HostPathType::Unset,
        "DirectoryOrCreate" => HostPathType::DirectoryOrCreate,
        "Directory" => HostPathType::Directory,
        "FileOrCreate" => HostPathType::FileOrCreate,
        "File" => HostPathType::File,
        "Socket" => HostPathType::Socket,
        "CharDevice" => HostPathType::CharDevice,
        "BlockDevice" => HostPathType::BlockDevice,
        _ => return None,
    })
}

fn sort(volume: &Volume) -> &'static str {
    match () {
        () if volume.config_map.is_some() => "kubernetes.io~configmap",
        () if volume.secret.is_some() => "kubernetes.io~secret",
        () if volume.downward_api.is_some() => "kubernetes.io~downward-api",
        () => "kubernetes.io~projected",
    }
}

/// What the volumes of a pod are, by name.
///
/// # Errors
/// [`VolumeError::SetUp`] for the first that can't be made: a missing object or key, a token that is not there, a sort
/// that this node does not know.
pub fn plan(
    pod: &Pod,
    sources: &Sources,
    tokens: &BTreeMap<TokenNeed, String>,
    facts: &NodeFacts,
) -> Result<BTreeMap<String, VolumePlan>, VolumeError> {
    let mut out = BTreeMap::new();
    for volume in spec::spec(pod).volumes.iter().flatten() {
        let fail = |reason: String| VolumeError::SetUp {
            volume: volume.name.clone(),
            reason,
        };
        let planned = if let Some(files) = payload::payload(pod, volume, sources, tokens, facts)? {
            VolumePlan::Files {
                sort: sort(volume),
                files,
            }
        } else if let Some(dir) = &volume.empty_dir {
            let limit = dir
                .size_limit
                .as_ref()
                .and_then(|q| Quantity::try_from(q).ok())
                .map(|q| q.value());
            VolumePlan::EmptyDir {
                memory: dir.medium.as_deref() == Some("Memory"),
                limit_bytes: limit.and_then(|l| u64::try_from(l).ok()).filter(|l| *l > 0),
            }
        } else if let Some(host) = &volume.host_path {
            let check = host_path_type(host.type_.as_deref()).ok_or_else(|| {
                fail(format!(
                    "unknown hostPath type {:?}",
                    host.type_.as_deref().unwrap_or("")
                ))
            })?;
            VolumePlan::HostPath {
                path: host.path.clone().into(),
                check,
            }
        } else {
            return Err(fail("this sort of volume is not supported by this node".into()));
        };
        out.insert(volume.name.clone(), planned);
    }
    Ok(out)
}

/// Names of the ConfigMaps and of the Secrets that the volumes of a pod hold.
#[must_use]
pub fn references(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    for volume in spec::spec(pod).volumes.iter().flatten() {
        maps.extend(volume.config_map.iter().map(|s| s.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|s| s.secret_name.clone()));
        for part in volume
            .projected
            .iter()
            .filter_map(|p| p.sources.as_ref())
            .flatten()
        {
            maps.extend(part.config_map.iter().map(|s| s.name.clone()));
            secrets.extend(part.secret.iter().map(|s| s.name.clone()));
        }
    }
    (maps, secrets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn planned(volume: Value) -> Result<VolumePlan, String> {
        let mut volume = volume;
        volume["name"] = json!("v");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}], "volumes": [volume]},
        }))
        .unwrap();
        let map = json!({"metadata": {}, "data": {"k": "v", "l": "w"}, "binaryData": {"b": "AAE="}});
        let sources = Sources {
            config_maps: [("m".to_owned(), Arc::new(serde_json::from_value(map).unwrap()))].into(),
            ..Sources::default()
        };
        let need = TokenNeed {
            audience: String::new(),
            expiration_seconds: 3600,
        };
        let tokens = [(need, "token".to_owned())].into();
        plan(&pod, &sources, &tokens, &NodeFacts::default())
            .map(|mut all| all.remove("v").unwrap())
            .map_err(|e| e.to_string())
    }

    fn files(volume: Value) -> Vec<(String, String, u32)> {
        match planned(volume).unwrap() {
            VolumePlan::Files { files, .. } => files
                .into_iter()
                .map(|(path, f)| (path, String::from_utf8_lossy(&f.bytes).into_owned(), f.mode))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sorts() {
        let one = |p: &str, c: &str, m| (p.to_owned(), c.to_owned(), m);
        assert_eq!(files(json!({"configMap": {"name": "m"}})).len(), 3);
        assert_eq!(
            files(json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "x/y", "mode": 0o400}]}})),
            [one("x/y", "v", 0o400)]
        );
        assert!(files(json!({"configMap": {"name": "none", "optional": true}})).is_empty());
        assert_eq!(
            files(json!({"downwardAPI": {"defaultMode": 0o600, "items": [
                {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}},
                {"path": "c", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}})),
            [one("c", "2", 0o600), one("l", "a=\"b\"", 0o600)]
        );
        assert_eq!(
            files(
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                {"configMap": {"name": "m", "items": [{"key": "l", "path": "l"}]}}]}})
            ),
            [one("l", "w", 0o644), one("token", "token", 0o644)]
        );
        let memory = json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
        assert_eq!(
            planned(memory),
            Ok(VolumePlan::EmptyDir {
                memory: true,
                limit_bytes: Some(1 << 20)
            })
        );
    }

    #[test]
    fn failures_name_the_volume_and_the_reason() {
        for (volume, reason) in [
            (
                json!({"configMap": {"name": "none"}}),
                "configmap \"none\" not found",
            ),
            (
                json!({"secret": {"secretName": "none"}}),
                "secret \"none\" not found",
            ),
            (
                json!({"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}),
                "references non-existent configmap key: z",
            ),
            (
                json!({"persistentVolumeClaim": {"claimName": "x"}}),
                "this sort of volume is not supported by this node",
            ),
        ] {
            let expected = format!("MountVolume.SetUp failed for volume \"v\" : {reason}");
            assert_eq!(planned(volume), Err(expected));
        }
    }
}
