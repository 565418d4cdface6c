//! Authorization seam: who may do what. The API server asks one [`Authorizer`] for each request.
//!
//! Members of `system:masters` are let through by the server itself before anyone is asked.

pub mod escalation;
pub mod node;
pub mod node_restriction;
mod rbac;
mod rule;
mod union;

pub use rbac::{Rbac, aggregated_rules};
pub use rule::PolicyRule;
pub use union::Union;

use crate::server::ObjectReader;
use async_trait::async_trait;
use orch_core::UserInfo;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a request wants to do, as authorizers see it.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// API verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or a special one
    /// such as `impersonate`); for a non-resource request the HTTP method in lower case.
    pub verb: &'a str,
    /// API group, empty for core.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Resource, such as `pods`; empty for a non-resource request.
    pub resource: &'a str,
    /// Subresource, such as `status`, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Object name, or empty.
    pub name: &'a str,
    /// URL path.
    pub path: &'a str,
    /// Whether this is about an API resource and not a bare path.
    pub resource_request: bool,
    /// Field selector of a list, watch or deletecollection as it was sent, or empty.
    pub field_selector: &'a str,
    /// Label selector of a list, watch or deletecollection as it was sent, or empty.
    pub label_selector: &'a str,
}

/// What an authorizer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, and why.
    Allow(String),
    /// Refused for good: nobody else is asked. And why.
    Deny(String),
    /// Not known here; refused unless another authorizer allows. And why, if anything went wrong.
    NoOpinion(String),
}

impl Decision {
    /// Whether the request may go on.
    #[must_use]
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
    /// The reason given.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(r) | Self::Deny(r) | Self::NoOpinion(r) => r,
        }
    }
}

/// A rule over resources, as `SelfSubjectRulesReview` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResourceRule {
    /// Verbs.
    pub verbs: Vec<String>,
    /// API groups.
    pub api_groups: Vec<String>,
    /// Resources.
    pub resources: Vec<String>,
    /// Names; empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
}

/// A rule over paths, as `SelfSubjectRulesReview` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NonResourceRule {
    /// Verbs.
    pub verbs: Vec<String>,
    /// Paths.
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

/// What a user may do in a namespace (`authorization.k8s.io/v1` `SubjectRulesReviewStatus`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rules {
    /// Rules over resources.
    pub resource_rules: Vec<ResourceRule>,
    /// Rules over paths.
    pub non_resource_rules: Vec<NonResourceRule>,
    /// Whether the list may lack rules.
    pub incomplete: bool,
    /// Why it is incomplete.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub evaluation_error: String,
}

/// Decides on requests.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Told once, when the server is built, through what to read roles and bindings.
    fn attach(&self, reader: Arc<dyn ObjectReader>) {
        drop(reader);
    }
    /// Whether the request may go on.
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
    /// All that `user` may do in `namespace`, for `SelfSubjectRulesReview`.
    async fn rules(&self, user: &UserInfo, namespace: &str) -> Rules {
        let _ = (user, namespace);
        Rules {
            incomplete: true,
            evaluation_error: "the authorizer does not support rule resolution".into(),
            ..Rules::default()
        }
    }
}

/// Allows everything; for tests and embedded use where the process boundary is the security boundary.
#[derive(Debug, Clone, Copy, Default)]
pub struct AlwaysAllow;

#[async_trait]
impl Authorizer for AlwaysAllow {
    async fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow(String::new())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use crate::server::ObjectReader;
    use orch_core::Object;
    use parking_lot::Mutex;
    use serde_json::Value;
    use std::{collections::BTreeMap, sync::Arc};

    type Key = (String, String, String, String);

    /// A reader over objects put in by hand.
    #[derive(Default)]
    pub(crate) struct Objects(Mutex<(u64, BTreeMap<Key, Arc<Object>>)>);

    impl Objects {
        pub(crate) fn new() -> Arc<Self> {
            Arc::default()
        }
        pub(crate) fn put(&self, group: &str, resource: &str, value: Value) {
            let object = Arc::new(Object::from_value(value));
            let key = (
                group.into(),
                resource.into(),
                object.namespace().into(),
                object.name().into(),
            );
            let mut held = self.0.lock();
            held.0 += 1;
            held.1.insert(key, object);
        }
        pub(crate) fn remove(&self, group: &str, resource: &str, namespace: &str, name: &str) {
            let mut held = self.0.lock();
            held.0 += 1;
            held.1
                .remove(&(group.into(), resource.into(), namespace.into(), name.into()));
        }
    }

    impl ObjectReader for Objects {
        fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
            self.0
                .lock()
                .1
                .get(&(group.into(), resource.into(), namespace.into(), name.into()))
                .cloned()
        }
        fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
            let held = self.0.lock();
            let wanted =
                |k: &Key| k.0 == group && k.1 == resource && (namespace.is_empty() || k.2 == namespace);
            held.1
                .iter()
                .filter(|(k, _)| wanted(k))
                .map(|(_, o)| o.clone())
                .collect()
        }
        fn revision(&self, _: &str, _: &str) -> u64 {
            self.0.lock().0
        }
    }
}
