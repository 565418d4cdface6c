//! Files that objects turn into; pure.

use super::VolumeError;
use crate::{
    agent::spec,
    env::{EnvError, NodeFacts, Sources, field, resource},
};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, Secret,
    ServiceAccountTokenProjection, Volume,
};
use std::collections::BTreeMap;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileData {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its mode.
    pub mode: u32,
    /// Owned by the pod's user, if that is known, and private to him.
    pub private: bool,
}

impl std::fmt::Debug for FileData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No content: it may be a secret.
        write!(f, "FileData({} bytes, {:o})", self.bytes.len(), self.mode)
    }
}

/// Files by relative path.
pub type Payload = BTreeMap<String, FileData>;

/// A service account token that a volume holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenNeed {
    /// Whom it is for; empty is the API server.
    pub audience: String,
    /// How long it should last, in seconds.
    pub expiration_seconds: i64,
}

impl TokenNeed {
    fn of(projection: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: projection.audience.clone().unwrap_or_default(),
            expiration_seconds: projection.expiration_seconds.unwrap_or(3600),
        }
    }
}

/// Tokens that the volumes of a pod hold.
#[must_use]
pub fn tokens(pod: &Pod) -> Vec<TokenNeed> {
    let volumes = spec::spec(pod).volumes.as_deref().unwrap_or_default();
    let sources = volumes
        .iter()
        .filter_map(|v| v.projected.as_ref()?.sources.as_ref())
        .flatten();
    let mut needs: Vec<TokenNeed> = sources
        .filter_map(|s| s.service_account_token.as_ref())
        .map(TokenNeed::of)
        .collect();
    needs.sort();
    needs.dedup();
    needs
}

const DEFAULT_MODE: i32 = 0o644;

fn mode(own: Option<i32>, default: i32) -> u32 {
    u32::try_from(own.unwrap_or(default)).unwrap_or(0o644) & 0o777
}

/// A path that stays below its volume.
fn safe(path: &str) -> Result<String, EnvError> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    let bad =
        path.starts_with('/') || parts.is_empty() || parts.contains(&"..") || parts[0].starts_with("..");
    if bad {
        Err(EnvError::Field(format!("invalid path {path:?}")))
    } else {
        Ok(parts.join("/"))
    }
}

struct Keyed<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    optional: bool,
    default_mode: i32,
}

/// Files of an object's keys: those of `items`, or all.
fn keyed(of: &Keyed<'_>, data: &BTreeMap<String, Vec<u8>>, items: &[KeyToPath]) -> Result<Payload, EnvError> {
    let mut out = Payload::new();
    let file = |bytes: &Vec<u8>, own| FileData {
        bytes: bytes.clone(),
        mode: mode(own, of.default_mode),
        private: false,
    };
    if items.is_empty() {
        for (key, bytes) in data {
            out.insert(key.clone(), file(bytes, None));
        }
        return Ok(out);
    }
    for item in items {
        match data.get(&item.key) {
            Some(bytes) => {
                out.insert(safe(&item.path)?, file(bytes, item.mode));
            }
            None if of.optional => {}
            None => {
                let (kind, namespace, name) = (of.kind, of.namespace, of.name);
                let text = format!(
                    "references non-existent {} key: {}",
                    kind.to_lowercase(),
                    item.key
                );
                tracing::debug!(namespace, name, "{text}");
                return Err(EnvError::Field(text));
            }
        }
    }
    Ok(out)
}

fn config_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    text.chain(
        map.binary_data
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.0.clone())),
    )
    .collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()))
        .collect()
}

fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    default_mode: i32,
    facts: &NodeFacts,
) -> Result<Payload, EnvError> {
    let mut out = Payload::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => field(pod, &selector.field_path, facts)?,
            (None, Some(selector)) => resource(pod, &Container::default(), selector, facts)?,
            (None, None) => continue,
        };
        let file = FileData {
            bytes: text.into_bytes(),
            mode: mode(item.mode, default_mode),
            private: false,
        };
        out.insert(safe(&item.path)?, file);
    }
    Ok(out)
}

fn projected(
    pod: &Pod,
    source: &ProjectedVolumeSource,
    sources: &Sources,
    tokens: &BTreeMap<TokenNeed, String>,
    facts: &NodeFacts,
) -> Result<Payload, EnvError> {
    let default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let namespace = spec::namespace(pod);
    let mut out = Payload::new();
    for part in source.sources.iter().flatten() {
        let of = |kind, name, optional: Option<bool>| Keyed {
            kind,
            namespace,
            name,
            optional: optional.unwrap_or(false),
            default_mode,
        };
        if let Some(part) = &part.config_map {
            let of = of("ConfigMap", &part.name, part.optional);
            if let Some(map) = sources.config_map(&part.name, of.optional)? {
                out.extend(keyed(
                    &of,
                    &config_data(map),
                    part.items.as_deref().unwrap_or_default(),
                )?);
            }
        }
        if let Some(part) = &part.secret {
            let of = of("Secret", &part.name, part.optional);
            if let Some(secret) = sources.secret(&part.name, of.optional)? {
                out.extend(keyed(
                    &of,
                    &secret_data(secret),
                    part.items.as_deref().unwrap_or_default(),
                )?);
            }
        }
        if let Some(part) = &part.downward_api {
            out.extend(downward(
                pod,
                part.items.as_deref().unwrap_or_default(),
                default_mode,
                facts,
            )?);
        }
        if let Some(part) = &part.service_account_token {
            let token = tokens.get(&TokenNeed::of(part));
            let token = token.ok_or_else(|| EnvError::Field("failed to fetch token".into()))?;
            let file = FileData {
                bytes: token.clone().into_bytes(),
                mode: mode(None, default_mode),
                private: true,
            };
            out.insert(safe(&part.path)?, file);
        }
        if part.cluster_trust_bundle.is_some() || part.pod_certificate.is_some() {
            return Err(EnvError::Field("projection is not supported by this node".into()));
        }
    }
    Ok(out)
}

/// Files of a volume, if it is of a sort that holds files; `None` otherwise.
pub(super) fn payload(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    tokens: &BTreeMap<TokenNeed, String>,
    facts: &NodeFacts,
) -> Result<Option<Payload>, VolumeError> {
    let namespace = spec::namespace(pod);
    let made = if let Some(source) = &volume.config_map {
        let optional = source.optional.unwrap_or(false);
        let default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let of = Keyed {
            kind: "ConfigMap",
            namespace,
            name: &source.name,
            optional,
            default_mode,
        };
        sources.config_map(&source.name, optional).and_then(|map| {
            let data = map.map(|m| config_data(m)).unwrap_or_default();
            keyed(
                &Keyed {
                    optional: optional || map.is_none(),
                    ..of
                },
                &data,
                source.items.as_deref().unwrap_or_default(),
            )
        })
    } else if let Some(source) = &volume.secret {
        let optional = source.optional.unwrap_or(false);
        let name = source.secret_name.as_deref().unwrap_or("");
        let default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        let of = Keyed {
            kind: "Secret",
            namespace,
            name,
            optional,
            default_mode,
        };
        sources.secret(name, optional).and_then(|secret| {
            let data = secret.map(|s| secret_data(s)).unwrap_or_default();
            keyed(
                &Keyed {
                    optional: optional || secret.is_none(),
                    ..of
                },
                &data,
                source.items.as_deref().unwrap_or_default(),
            )
        })
    } else if let Some(source) = &volume.downward_api {
        let default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        downward(
            pod,
            source.items.as_deref().unwrap_or_default(),
            default_mode,
            facts,
        )
    } else if let Some(source) = &volume.projected {
        projected(pod, source, sources, tokens, facts)
    } else {
        return Ok(None);
    };
    made.map(Some).map_err(|e| VolumeError::SetUp {
        volume: volume.name.clone(),
        reason: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        for good in ["a", "a/b", "a/./b", "..a/../x"].iter().take(3) {
            assert!(safe(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../b", "..data", "..", "."] {
            assert!(safe(bad).is_err(), "{bad}");
        }
    }
}
