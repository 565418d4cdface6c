//! The environment of containers, and the few files under `/etc` that the agent writes for them; pure.

mod expand;
mod field;
mod files;
mod services;

pub use expand::expand;
pub use field::{NodeFacts, field, resource};
pub use files::{DnsConfig, ResolvConf, host_name, hosts_file, parse_resolv_conf, resolv_conf};
pub use services::service_variables;

use crate::agent::spec;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVarSource, Pod, Secret, Service};
use std::{collections::BTreeMap, sync::Arc};

/// Why an environment, file or volume can't be made. The texts go into the pod's status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A referenced object does not exist (`configmap` or `secret`).
    #[error("{kind} {name:?} not found")]
    NotFound {
        /// Kind in lower case.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A referenced object lacks a key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// The key.
        key: String,
        /// Kind as the API spells it.
        kind: &'static str,
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
    },
    /// A field or resource that the downward API does not have.
    #[error("{0}")]
    Field(String),
}

/// ConfigMaps and Secrets of the pod's namespace, by name. What is not there does not exist.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// ConfigMaps.
    pub config_maps: BTreeMap<String, Arc<ConfigMap>>,
    /// Secrets.
    pub secrets: BTreeMap<String, Arc<Secret>>,
}

impl Sources {
    /// The ConfigMap of this name; `None` if it is optional and absent.
    ///
    /// # Errors
    /// [`EnvError::NotFound`].
    pub fn config_map(&self, name: &str, optional: bool) -> Result<Option<&Arc<ConfigMap>>, EnvError> {
        match self.config_maps.get(name) {
            None if !optional => Err(EnvError::NotFound {
                kind: "configmap",
                name: name.into(),
            }),
            found => Ok(found),
        }
    }
    /// The Secret of this name; `None` if it is optional and absent.
    ///
    /// # Errors
    /// [`EnvError::NotFound`].
    pub fn secret(&self, name: &str, optional: bool) -> Result<Option<&Arc<Secret>>, EnvError> {
        match self.secrets.get(name) {
            None if !optional => Err(EnvError::NotFound {
                kind: "secret",
                name: name.into(),
            }),
            found => Ok(found),
        }
    }
}

/// Bytes as text; what is not UTF-8 is replaced, since an environment can't carry it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The environment of a container: what the pod declares in its order of declaration, then the Services' variables that
/// the pod does not override.
///
/// # Errors
/// [`EnvError`] for a reference that leads nowhere and is not optional.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    services: &[Arc<Service>],
    facts: &NodeFacts,
) -> Result<Vec<(String, String)>, EnvError> {
    let links = spec::spec(pod).enable_service_links.unwrap_or(true);
    let service_env = service_variables(services, spec::namespace(pod), links);
    let mut env: indexmap::IndexMap<String, String> = indexmap::IndexMap::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or("");
        if let Some(reference) = &from.config_map_ref {
            let found = sources.config_map(&reference.name, reference.optional.unwrap_or(false))?;
            for (key, value) in found.iter().flat_map(|c| c.data.iter().flatten()) {
                env.insert(format!("{prefix}{key}"), value.clone());
            }
        } else if let Some(reference) = &from.secret_ref {
            let found = sources.secret(&reference.name, reference.optional.unwrap_or(false))?;
            for (key, value) in found.iter().flat_map(|s| s.data.iter().flatten()) {
                env.insert(format!("{prefix}{key}"), text(&value.0));
            }
        }
    }
    for var in container.env.iter().flatten() {
        let plain = var.value.as_deref().unwrap_or("");
        let value = if !plain.is_empty() {
            expand(plain, |name| {
                env.get(name).or_else(|| service_env.get(name)).cloned()
            })
        } else if let Some(source) = &var.value_from {
            match from_source(pod, container, source, sources, facts)? {
                Some(value) => value,
                None => continue,
            }
        } else {
            String::new()
        };
        env.insert(var.name.clone(), value);
    }
    for (name, value) in service_env {
        env.entry(name).or_insert(value);
    }
    Ok(env.into_iter().collect())
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
    facts: &NodeFacts,
) -> Result<Option<String>, EnvError> {
    let missing = |kind, key: &str, name: &str, optional: bool| {
        let error = EnvError::NoKey {
            key: key.into(),
            kind,
            namespace: spec::namespace(pod).into(),
            name: name.into(),
        };
        if optional { Ok(None) } else { Err(error) }
    };
    if let Some(selector) = &source.field_ref {
        return field(pod, &selector.field_path, facts).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return resource(pod, container, selector, facts).map(Some);
    }
    if let Some(selector) = &source.config_map_key_ref {
        let optional = selector.optional.unwrap_or(false);
        let Some(found) = sources.config_map(&selector.name, optional)? else {
            return Ok(None);
        };
        return match found.data.as_ref().and_then(|d| d.get(&selector.key)) {
            Some(value) => Ok(Some(value.clone())),
            None => missing("ConfigMap", &selector.key, &selector.name, optional),
        };
    }
    if let Some(selector) = &source.secret_key_ref {
        let optional = selector.optional.unwrap_or(false);
        let Some(found) = sources.secret(&selector.name, optional)? else {
            return Ok(None);
        };
        return match found.data.as_ref().and_then(|d| d.get(&selector.key)) {
            Some(value) => Ok(Some(text(&value.0))),
            None => missing("Secret", &selector.key, &selector.name, optional),
        };
    }
    Ok(Some(String::new()))
}

/// Names of the ConfigMaps and of the Secrets that the environments of a pod refer to.
#[must_use]
pub fn references(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    let spec = spec::spec(pod);
    let ephemeral: Vec<Container> = spec::ephemeral_containers(spec)
        .iter()
        .map(spec::from_ephemeral)
        .collect();
    for container in spec
        .containers
        .iter()
        .chain(spec::init_containers(spec))
        .chain(&ephemeral)
    {
        for from in container.env_from.iter().flatten() {
            maps.extend(from.config_map_ref.iter().map(|r| r.name.clone()));
            secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
        }
        for source in container
            .env
            .iter()
            .flatten()
            .filter_map(|v| v.value_from.as_ref())
        {
            maps.extend(source.config_map_key_ref.iter().map(|r| r.name.clone()));
            secrets.extend(source.secret_key_ref.iter().map(|r| r.name.clone()));
        }
    }
    (maps, secrets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sources_order_and_references() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [{"name": "c",
                "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "no", "optional": true}}],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "value": "$(A)-$(P_x)-$(S_SERVICE_HOST)-$(none)"},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "none", "optional": true}}},
                    {"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "P_x", "value": "over"},
                ]}]},
        }))
        .unwrap();
        let sources = Sources {
            config_maps: [(
                "m".to_owned(),
                Arc::new(serde_json::from_value(json!({"metadata": {}, "data": {"x": "y"}})).unwrap()),
            )]
            .into(),
            secrets: [(
                "s".to_owned(),
                Arc::new(serde_json::from_value(json!({"metadata": {}, "data": {"k": "c2VjcmV0"}})).unwrap()),
            )]
            .into(),
        };
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n"},
            "spec": {"clusterIP": "10.0.0.9", "ports": [{"port": 1}]}}))
        .unwrap();
        let container = &spec::spec(&pod).containers[0];
        let env = environment(
            &pod,
            container,
            &sources,
            &[Arc::new(service)],
            &NodeFacts::default(),
        )
        .unwrap();
        let declared: Vec<(&str, &str)> = env
            .iter()
            .take(5)
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            declared,
            [
                ("P_x", "over"),
                ("A", "1"),
                ("B", "1-y-10.0.0.9-$(none)"),
                ("C", "secret"),
                ("E", "p")
            ]
        );
        assert!(env.iter().any(|(k, _)| k == "S_SERVICE_PORT"));
        let error =
            environment(&pod, container, &Sources::default(), &[], &NodeFacts::default()).unwrap_err();
        assert_eq!(error.to_string(), "configmap \"m\" not found");
        assert_eq!(
            references(&pod),
            (
                vec!["m".to_owned(), "m".to_owned()],
                vec!["no".to_owned(), "s".to_owned()]
            )
        );
    }
}
