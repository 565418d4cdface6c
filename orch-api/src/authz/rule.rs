//! RBAC policy rules: matching a request, covering another rule, and their compact text.

use super::Attributes;
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};

/// A rule of a Role or ClusterRole (`rbac.authorization.k8s.io/v1` `PolicyRule`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyRule {
    /// Verbs; `*` is all.
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<String>,
    /// API groups; `*` is all, empty text is core.
    #[serde(deserialize_with = "list")]
    pub api_groups: Vec<String>,
    /// Resources, `resource/subresource`, `*/subresource` or `*`.
    #[serde(deserialize_with = "list")]
    pub resources: Vec<String>,
    /// Names; empty is all.
    #[serde(deserialize_with = "list")]
    pub resource_names: Vec<String>,
    /// Paths; a `*` may stand at the end.
    #[serde(rename = "nonResourceURLs", deserialize_with = "list")]
    pub non_resource_urls: Vec<String>,
}

/// A list that may be `null`, as Go writes empty ones.
fn list<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

fn has(set: &[String], element: &str) -> bool {
    set.iter().any(|e| e == element)
}

impl PolicyRule {
    /// A rule over resources; lists separated by commas.
    pub(super) fn resources(verbs: &str, groups: &str, resources: &str) -> Self {
        let split = |s: &str| s.split(',').map(String::from).collect();
        Self {
            verbs: split(verbs),
            api_groups: split(groups),
            resources: split(resources),
            ..Self::default()
        }
    }

    /// Whether it allows the request.
    #[must_use]
    pub fn allows(&self, a: &Attributes<'_>) -> bool {
        let verb = has(&self.verbs, "*") || has(&self.verbs, a.verb);
        if !a.resource_request {
            return verb
                && self
                    .non_resource_urls
                    .iter()
                    .any(|owner| path_covers(owner, a.path));
        }
        verb && (has(&self.api_groups, "*") || has(&self.api_groups, a.group))
            && self
                .resources
                .iter()
                .any(|r| resource_matches(r, a.resource, a.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, a.name))
    }

    /// Takes it apart into rules of one verb, group, resource and name each.
    fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        let one = |s: &str| vec![s.to_owned()];
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let atom = Self {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        atoms.push(atom);
                    } else {
                        let named = self.resource_names.iter();
                        atoms.extend(named.map(|n| Self {
                            resource_names: one(n),
                            ..atom.clone()
                        }));
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            for verb in &self.verbs {
                atoms.push(Self {
                    verbs: one(verb),
                    non_resource_urls: one(url),
                    ..Self::default()
                });
            }
        }
        atoms
    }

    /// Whether everything that `atom` allows is allowed by this.
    fn covers(&self, atom: &Self) -> bool {
        let all = |own: &[String], theirs: &[String]| has(own, "*") || theirs.iter().all(|t| has(own, t));
        let resource = |r: &String| {
            has(&self.resources, "*")
                || has(&self.resources, r)
                || r.split_once('/')
                    .is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
        };
        let url = |u: &String| self.non_resource_urls.iter().any(|owner| path_covers(owner, u));
        all(&self.verbs, &atom.verbs)
            && all(&self.api_groups, &atom.api_groups)
            && atom.resources.iter().all(resource)
            && (self.resource_names.is_empty()
                || (!atom.resource_names.is_empty()
                    && atom.resource_names.iter().all(|n| has(&self.resource_names, n))))
            && atom.non_resource_urls.iter().all(url)
    }

    /// Upstream's one-line form: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
    fn compact(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| format!("{name}:{}", go_strings(values)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// A list of strings as Go's `%q` prints it.
pub(super) fn go_strings(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn path_covers(owner: &str, path: &str) -> bool {
    owner == "*" || owner == path || (owner.ends_with('*') && path.starts_with(owner.trim_end_matches('*')))
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((r, s)) => !subresource.is_empty() && s == subresource && (r == "*" || r == resource),
    }
}

/// The parts of `wanted` that `owned` does not cover, in compact text, sorted; verbs of the same resource together.
pub(super) fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<String> {
    let uncovered = wanted
        .iter()
        .flat_map(PolicyRule::atoms)
        .filter(|atom| !owned.iter().any(|o| o.covers(atom)));
    let mut merged = BTreeMap::<[Vec<String>; 3], PolicyRule>::new();
    let mut texts = BTreeSet::new();
    for atom in uncovered {
        if !atom.non_resource_urls.is_empty() {
            texts.insert(atom.compact());
            continue;
        }
        let key = [&atom.api_groups, &atom.resources, &atom.resource_names].map(Clone::clone);
        merged
            .entry(key)
            .and_modify(|rule| rule.verbs.extend(atom.verbs.iter().cloned()))
            .or_insert(atom);
    }
    texts.extend(merged.values().map(PolicyRule::compact));
    texts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use orch_core::UserInfo;

    fn check(rule: &PolicyRule, verb: &str, group: &str, resource: &str, name: &str, allowed: bool) {
        let user = UserInfo::new("u", &[]);
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let a = Attributes {
            user: &user,
            verb,
            group,
            version: "v1",
            resource,
            subresource,
            namespace: "n",
            name,
            path: "",
            resource_request: true,
            field_selector: "",
            label_selector: "",
        };
        assert_eq!(
            rule.allows(&a),
            allowed,
            "{verb} {group} {resource}/{subresource} {name}"
        );
    }

    #[test]
    fn matching() {
        let pods = PolicyRule::resources("get,list", "", "pods,*/status");
        check(&pods, "get", "", "pods", "x", true);
        check(&pods, "delete", "", "pods", "x", false);
        check(&pods, "get", "apps", "pods", "x", false);
        check(&pods, "get", "", "pods/log", "x", false);
        check(&pods, "get", "", "nodes/status", "x", true);
        check(&pods, "get", "", "nodes", "x", false);
        let all = PolicyRule::resources("*", "*", "*");
        check(&all, "frob", "g", "pods/exec", "", true);
        let named = PolicyRule {
            resource_names: vec!["a".into()],
            ..PolicyRule::resources("get", "", "secrets")
        };
        check(&named, "get", "", "secrets", "a", true);
        check(&named, "get", "", "secrets", "b", false);
        check(&named, "get", "", "secrets", "", false);
        assert!(
            path_covers("/healthz/*", "/healthz/x") && path_covers("*", "/x") && !path_covers("/a", "/a/")
        );
    }

    #[test]
    fn what_is_missing_reads_as_upstream() {
        let owned = [PolicyRule::resources("get,list", "apps", "deployments")];
        let wanted = [
            PolicyRule::resources("get,update,delete", "apps", "deployments"),
            PolicyRule::resources("get", "", "secrets"),
        ];
        assert_eq!(
            missing(&owned, &wanted),
            [
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#,
                r#"{APIGroups:["apps"], Resources:["deployments"], Verbs:["update" "delete"]}"#,
            ]
        );
        assert!(missing(&[PolicyRule::resources("*", "*", "*")], &wanted).is_empty());
        let named = PolicyRule {
            resource_names: vec!["a".into()],
            ..PolicyRule::resources("get", "", "secrets")
        };
        assert!(missing(&wanted, std::slice::from_ref(&named)).is_empty());
        assert_eq!(
            missing(&[named], &[PolicyRule::resources("get", "", "secrets")]).len(),
            1
        );
    }
}
