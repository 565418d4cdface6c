//! Role-based access control (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/>).
//!
//! Roles and bindings are compiled into an index by subject whenever one of them changed; a request then looks only
//! at the bindings of its user and groups. ClusterRoles with an aggregation rule get the rules of what they select at
//! that moment, whether or not somebody has written them out yet.

use super::{Attributes, Authorizer, Decision, NonResourceRule, ResourceRule, Rules, rule::PolicyRule};
use crate::server::ObjectReader;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use orch_core::{Object, UserInfo, selector::LabelSelector};
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// A role's rules as granted by one binding.
struct Grant {
    /// Why the request is allowed, for the audit log.
    source: String,
    rules: Arc<Vec<PolicyRule>>,
    /// Why the rules are missing, if the role does not exist.
    error: Option<String>,
}

/// The bindings of one namespace, or those of the whole cluster.
#[derive(Default)]
struct Scope {
    grants: Vec<Grant>,
    /// Grants by user name; a service account is a user, but named as such in explanations.
    users: BTreeMap<String, Vec<(usize, &'static str)>>,
    groups: BTreeMap<String, Vec<(usize, &'static str)>>,
}

/// Everything that is granted, at one moment.
#[derive(Default)]
pub(super) struct Grants {
    revisions: [u64; 4],
    cluster: Scope,
    namespaces: BTreeMap<String, Scope>,
    cluster_roles: BTreeMap<String, Arc<Vec<PolicyRule>>>,
    roles: BTreeMap<(String, String), Arc<Vec<PolicyRule>>>,
}

/// The RBAC authorizer.
#[derive(Default)]
pub struct Rbac {
    reader: OnceLock<Arc<dyn ObjectReader>>,
    compiled: ArcSwap<Grants>,
    compiling: Mutex<()>,
}

impl std::fmt::Debug for Rbac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rbac")
    }
}

impl Rbac {
    /// An authorizer that allows nothing until it is attached to a server.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn grants(&self) -> Arc<Grants> {
        let Some(reader) = self.reader.get() else {
            return self.compiled.load_full();
        };
        let revisions = RESOURCES.map(|r| reader.revision(GROUP, r));
        {
            let held = self.compiled.load();
            if held.revisions == revisions {
                return Arc::clone(&held);
            }
        }
        let _one_at_a_time = self.compiling.lock();
        let revisions = RESOURCES.map(|r| reader.revision(GROUP, r));
        if self.compiled.load().revisions == revisions {
            return self.compiled.load_full();
        }
        // The revisions were read before the objects, so what is compiled is never older than it says.
        let compiled = Arc::new(Grants::compile(&**reader, revisions));
        self.compiled.store(compiled.clone());
        compiled
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn rules_of(role: &Value) -> Vec<PolicyRule> {
    // A rule that does not decode grants nothing.
    let rules = role.get("rules").and_then(Value::as_array);
    rules
        .into_iter()
        .flatten()
        .filter_map(|r| serde::Deserialize::deserialize(r).ok())
        .collect()
}

/// The rules that a ClusterRole's aggregation rule gathers from `all`, without repetitions, in name order;
/// `None` if it has no aggregation rule. What the aggregation controller writes into the role.
#[must_use]
pub fn aggregated_rules(role: &Value, all: &[Arc<Object>]) -> Option<Vec<PolicyRule>> {
    role.get("aggregationRule")?;
    Some(gather(role, all, |other| Arc::new(rules_of(other.value()))))
}

fn gather(
    role: &Value,
    all: &[Arc<Object>],
    rules: impl Fn(&Object) -> Arc<Vec<PolicyRule>>,
) -> Vec<PolicyRule> {
    let selectors = role
        .pointer("/aggregationRule/clusterRoleSelectors")
        .and_then(Value::as_array);
    let selectors: Vec<LabelSelector> = selectors
        .into_iter()
        .flatten()
        .filter_map(|s| LabelSelector::from_value(Some(s)).ok())
        .collect();
    let mut gathered: Vec<PolicyRule> = Vec::new();
    for other in all.iter().filter(|o| o.name() != text(role, "/metadata/name")) {
        let labels = other.value().pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
        if selectors.iter().any(|s| s.matches_with(label)) {
            for rule in rules(other).iter() {
                if !gathered.contains(rule) {
                    gathered.push(rule.clone());
                }
            }
        }
    }
    gathered
}

impl Grants {
    fn compile(reader: &dyn ObjectReader, revisions: [u64; 4]) -> Self {
        let mut grants = Self {
            revisions,
            ..Self::default()
        };
        let cluster_roles = reader.list(GROUP, "clusterroles", "");
        let aggregating = |o: &&Arc<Object>| o.value().get("aggregationRule").is_some_and(Value::is_object);
        for role in &cluster_roles {
            grants
                .cluster_roles
                .insert(role.name().into(), Arc::new(rules_of(role.value())));
        }
        // Aggregates may select aggregates (admin selects edit, edit selects view): repeat until nothing changes.
        for _ in 0..cluster_roles.iter().filter(aggregating).count() {
            let mut changed = false;
            for role in cluster_roles.iter().filter(aggregating) {
                let held = |o: &Object| grants.cluster_roles.get(o.name()).cloned().unwrap_or_default();
                let rules = gather(role.value(), &cluster_roles, held);
                if grants
                    .cluster_roles
                    .get(role.name())
                    .is_none_or(|held| **held != rules)
                {
                    grants.cluster_roles.insert(role.name().into(), Arc::new(rules));
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        for role in reader.list(GROUP, "roles", "") {
            let key = (role.namespace().to_owned(), role.name().to_owned());
            grants.roles.insert(key, Arc::new(rules_of(role.value())));
        }
        for binding in reader.list(GROUP, "clusterrolebindings", "") {
            let grant = grants.grant(&binding, "ClusterRoleBinding", "");
            grants.cluster.add(grant, binding.value(), "");
        }
        for binding in reader.list(GROUP, "rolebindings", "") {
            let namespace = binding.namespace();
            let grant = grants.grant(&binding, "RoleBinding", namespace);
            grants
                .namespaces
                .entry(namespace.into())
                .or_default()
                .add(grant, binding.value(), namespace);
        }
        grants
    }

    /// The rules of a role as a binding in `namespace` (empty: of the cluster) refers to it.
    pub(super) fn role(
        &self,
        kind: &str,
        name: &str,
        namespace: &str,
    ) -> Result<Arc<Vec<PolicyRule>>, String> {
        let (found, what) = match kind {
            "ClusterRole" => (self.cluster_roles.get(name), "clusterrole"),
            "Role" => (self.roles.get(&(namespace.to_owned(), name.to_owned())), "role"),
            _ => return Err(format!("unsupported role reference kind: {kind:?}")),
        };
        found
            .cloned()
            .ok_or_else(|| format!("{what}.{GROUP} {name:?} not found"))
    }

    fn grant(&self, binding: &Object, kind: &str, namespace: &str) -> Grant {
        let reference = |field: &str| text(binding.value(), &format!("/roleRef/{field}"));
        let (rules, error) = match self.role(reference("kind"), reference("name"), namespace) {
            Ok(rules) => (rules, None),
            Err(error) => (Arc::default(), Some(error)),
        };
        // Upstream puts the name before the namespace here.
        let slash = if namespace.is_empty() {
            String::new()
        } else {
            format!("/{namespace}")
        };
        let source = format!(
            "{kind} \"{}{slash}\" of {} {:?}",
            binding.name(),
            reference("kind"),
            reference("name")
        );
        Grant { source, rules, error }
    }

    /// Calls `visit` with each grant of the user that applies in `namespace`, until it returns false.
    fn visit<'a>(
        &'a self,
        user: &UserInfo,
        namespace: &str,
        mut visit: impl FnMut(&'a Grant, &str, &str) -> bool,
    ) {
        let scopes = [
            Some(&self.cluster),
            (!namespace.is_empty())
                .then(|| self.namespaces.get(namespace))
                .flatten(),
        ];
        for scope in scopes.into_iter().flatten() {
            let mut seen = BTreeSet::new();
            let of_user = scope
                .users
                .get(&user.username)
                .into_iter()
                .flatten()
                .map(|g| (g, &user.username));
            let of_groups = user.groups.iter().flat_map(|name| {
                scope
                    .groups
                    .get(name)
                    .into_iter()
                    .flatten()
                    .map(move |g| (g, name))
            });
            for ((index, kind), name) in of_user.chain(of_groups) {
                if seen.insert(*index) && !visit(&scope.grants[*index], kind, name) {
                    return;
                }
            }
        }
    }

    /// All rules of the user in `namespace`, and what could not be resolved.
    pub(super) fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        self.visit(user, namespace, |grant, _, _| {
            rules.extend(grant.rules.iter().cloned());
            errors.extend(grant.error.clone());
            true
        });
        (rules, errors)
    }
}

/// A subject as upstream names it: service accounts as `"name/namespace"`.
fn describe(kind: &str, name: &str) -> String {
    match name
        .strip_prefix("system:serviceaccount:")
        .and_then(|n| n.split_once(':'))
    {
        Some((namespace, account)) if kind == "ServiceAccount" => format!("{kind} \"{account}/{namespace}\""),
        _ => format!("{kind} {name:?}"),
    }
}

impl Scope {
    fn add(&mut self, grant: Grant, binding: &Value, namespace: &str) {
        let index = self.grants.len();
        self.grants.push(grant);
        for subject in binding
            .get("subjects")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = text(subject, "/name");
            match text(subject, "/kind") {
                "User" => self.users.entry(name.into()).or_default().push((index, "User")),
                "Group" => self.groups.entry(name.into()).or_default().push((index, "Group")),
                "ServiceAccount" => {
                    let of = Some(text(subject, "/namespace"))
                        .filter(|n| !n.is_empty())
                        .unwrap_or(namespace);
                    if !of.is_empty() {
                        let user = format!("system:serviceaccount:{of}:{name}");
                        self.users
                            .entry(user)
                            .or_default()
                            .push((index, "ServiceAccount"));
                    }
                }
                _ => {}
            }
        }
    }
}

#[async_trait]
impl Authorizer for Rbac {
    fn attach(&self, reader: Arc<dyn ObjectReader>) {
        // A second server on the same authorizer would be a wiring mistake; the first one stays.
        drop(self.reader.set(reader));
    }

    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let grants = self.grants();
        let (mut allowed, mut errors) = (None, Vec::new());
        grants.visit(attributes.user, attributes.namespace, |grant, kind, name| {
            if grant.rules.iter().any(|rule| rule.allows(attributes)) {
                allowed = Some(format!(
                    "RBAC: allowed by {} to {}",
                    grant.source,
                    describe(kind, name)
                ));
                return false;
            }
            errors.extend(grant.error.clone());
            true
        });
        match allowed {
            Some(why) => Decision::Allow(why),
            None if errors.is_empty() => Decision::NoOpinion(String::new()),
            None => Decision::NoOpinion(format!("RBAC: {}", aggregate(&errors))),
        }
    }

    async fn rules(&self, user: &UserInfo, namespace: &str) -> Rules {
        let (rules, errors) = self.grants().rules_for(user, namespace);
        let mut out = Rules {
            evaluation_error: aggregate(&errors),
            ..Rules::default()
        };
        for rule in rules {
            if !rule.resources.is_empty() {
                out.resource_rules.push(ResourceRule {
                    verbs: rule.verbs.clone(),
                    api_groups: rule.api_groups,
                    resources: rule.resources,
                    resource_names: rule.resource_names,
                });
            }
            if !rule.non_resource_urls.is_empty() {
                out.non_resource_rules.push(NonResourceRule {
                    verbs: rule.verbs,
                    non_resource_urls: rule.non_resource_urls,
                });
            }
        }
        out
    }
}

/// Several errors in one text, as upstream joins them.
fn aggregate(errors: &[String]) -> String {
    let unique: BTreeSet<&String> = errors.iter().collect();
    match errors {
        [] => String::new(),
        [one] => one.clone(),
        _ if unique.len() == 1 => errors[0].clone(),
        _ => {
            let mut seen = BTreeSet::new();
            let ordered: Vec<&str> = errors
                .iter()
                .filter(|e| seen.insert(*e))
                .map(String::as_str)
                .collect();
            format!("[{}]", ordered.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::testing::Objects;
    use serde_json::json;

    #[tokio::test]
    async fn roles_bind_aggregate_and_follow_changes() {
        let objects = Objects::new();
        let view = json!({"metadata": {"name": "view-pods", "labels": {"agg": "view"}},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
        objects.put(GROUP, "clusterroles", view);
        for (name, label, select) in [("view", "edit", "view"), ("edit", "-", "edit")] {
            objects.put(GROUP, "clusterroles", json!({"metadata": {"name": name, "labels": {"agg": label}},
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"agg": select}}]}, "rules": null}));
        }
        objects.put(
            GROUP,
            "rolebindings",
            json!({"metadata": {"name": "b", "namespace": "ns"},
            "roleRef": {"kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": "sa"}, {"kind": "Group", "name": "devs"}]}),
        );
        objects.put(GROUP, "clusterrolebindings", json!({"metadata": {"name": "lost"},
            "roleRef": {"kind": "ClusterRole", "name": "gone"}, "subjects": [{"kind": "Group", "name": "devs"}]}));
        let rbac = Rbac::new();
        rbac.attach(objects.clone());
        let ask = async |user: &UserInfo, namespace: &str| {
            rbac.authorize(&Attributes {
                user,
                verb: "get",
                group: "",
                version: "v1",
                resource: "pods",
                subresource: "",
                namespace,
                name: "p",
                path: "",
                resource_request: true,
                field_selector: "",
                label_selector: "",
            })
            .await
        };
        let account = UserInfo::new("system:serviceaccount:ns:sa", &[]);
        let dev = UserInfo::new("d", &["devs"]);
        let expected =
            "RBAC: allowed by RoleBinding \"b/ns\" of ClusterRole \"edit\" to ServiceAccount \"sa/ns\"";
        assert_eq!(ask(&account, "ns").await, Decision::Allow(expected.into()));
        assert!(ask(&dev, "ns").await.allowed());
        assert!(!ask(&account, "other").await.allowed());
        let expected = "RBAC: clusterrole.rbac.authorization.k8s.io \"gone\" not found";
        assert_eq!(ask(&dev, "").await, Decision::NoOpinion(expected.into()));
        assert_eq!(rbac.rules(&account, "ns").await.resource_rules.len(), 1);
        objects.remove(GROUP, "rolebindings", "ns", "b");
        assert!(!ask(&account, "ns").await.allowed());
    }
}
