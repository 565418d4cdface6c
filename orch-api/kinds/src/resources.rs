//! The built-in resources that are served: names, scope, verbs, short names, categories, subresources.
//!
//! The facts are those of a v1.36 API server's discovery (`data/api-resources.tsv`), in its order, which is the
//! order of group priority.

use orch_core::{GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
use std::sync::LazyLock;

/// A served resource. Also what a custom resource's definition turns into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceDef {
    /// Group, version and plural name.
    pub gvr: GroupVersionResource,
    /// Kind of an object.
    pub kind: String,
    /// Kind of a list of them.
    pub list_kind: String,
    /// Singular name; lower-case kind.
    pub singular: String,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Short names, such as `po`.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Verbs, sorted. A resource with `create` alone is not stored (reviews, bindings).
    pub verbs: Vec<String>,
    /// Subresources, sorted by name.
    pub subresources: Vec<SubresourceDef>,
}

/// A subresource, such as `scale`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubresourceDef {
    /// Name, such as `scale`.
    pub name: String,
    /// Kind that it takes and gives, with its own group and version.
    pub gvk: GroupVersionKind,
    /// Verbs, sorted.
    pub verbs: Vec<String>,
}

impl ResourceDef {
    /// Group, version and kind of an object.
    #[must_use]
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(
            self.gvr.group.clone(),
            self.gvr.version.clone(),
            self.kind.clone(),
        )
    }
    /// Group, version and kind of a list.
    #[must_use]
    pub fn list_gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(
            self.gvr.group.clone(),
            self.gvr.version.clone(),
            self.list_kind.clone(),
        )
    }
    /// Whether `verb` is served.
    #[must_use]
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
    /// The subresource `name`.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&SubresourceDef> {
        self.subresources.iter().find(|s| s.name == name)
    }
    /// Whether objects are kept (as against answered and forgotten).
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.has_verb("get")
    }
    /// The resource under which objects are stored: the events of both groups are the same objects.
    #[must_use]
    pub fn storage(&self) -> GroupResource {
        let mut resource = self.gvr.group_resource();
        if resource.group == "events.k8s.io" {
            resource.group = String::new();
        }
        resource
    }
}

static ALL: LazyLock<Vec<ResourceDef>> = LazyLock::new(|| parse(include_str!("../data/api-resources.tsv")));

/// All served built-in resources, by group priority.
#[must_use]
pub fn all() -> &'static [ResourceDef] {
    &ALL
}

/// The built-in resource of that name.
#[must_use]
pub fn by_resource(gvr: &GroupVersionResource) -> Option<&'static ResourceDef> {
    ALL.iter().find(|d| d.gvr == *gvr)
}

/// The built-in resource whose objects are of that kind.
#[must_use]
pub fn by_kind(gvk: &GroupVersionKind) -> Option<&'static ResourceDef> {
    ALL.iter()
        .find(|d| d.kind == gvk.kind && d.gvr.group == gvk.group && d.gvr.version == gvk.version)
}

fn parse(table: &str) -> Vec<ResourceDef> {
    let mut defs: Vec<ResourceDef> = Vec::new();
    for line in table.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let column = |i: usize| columns.get(i).copied().unwrap_or_default();
        let list = |i: usize| {
            column(i)
                .split(',')
                .filter(|s| !s.is_empty())
                .map(String::from)
                .collect::<Vec<_>>()
        };
        let Some(gv) = GroupVersion::parse(column(0)) else {
            continue;
        };
        let kind = column(2);
        if let Some((resource, name)) = column(1).split_once('/') {
            let of = GroupVersion::parse(column(8)).unwrap_or_else(|| gv.clone());
            let gvk = GroupVersionKind::new(of.group, of.version, kind);
            let owner = defs.iter_mut().find(|d| {
                d.gvr.group == gv.group && d.gvr.version == gv.version && d.gvr.resource == resource
            });
            if let Some(owner) = owner {
                owner.subresources.push(SubresourceDef {
                    name: name.into(),
                    gvk,
                    verbs: list(4),
                });
            }
            continue;
        }
        defs.push(ResourceDef {
            gvr: GroupVersionResource::new(gv.group, gv.version, column(1)),
            kind: kind.into(),
            list_kind: format!("{kind}List"),
            singular: column(7).into(),
            namespaced: column(3) == "namespaced",
            short_names: list(5),
            categories: list(6),
            verbs: list(4),
            subresources: Vec::new(),
        });
    }
    defs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_and_scale() {
        let pods = by_resource(&GroupVersionResource::new("", "v1", "pods")).unwrap();
        assert_eq!(
            (
                pods.kind.as_str(),
                pods.list_kind.as_str(),
                pods.singular.as_str()
            ),
            ("Pod", "PodList", "pod")
        );
        assert_eq!(pods.short_names, ["po"]);
        assert_eq!(pods.categories, ["all"]);
        let names: Vec<&str> = pods.subresources.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "attach",
                "binding",
                "ephemeralcontainers",
                "eviction",
                "exec",
                "log",
                "portforward",
                "proxy",
                "resize",
                "status"
            ]
        );
        assert_eq!(pods.subresource("eviction").unwrap().gvk.group, "policy");
        let deployments = by_kind(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let scale = deployments.subresource("scale").unwrap();
        assert_eq!(scale.gvk, GroupVersionKind::new("autoscaling", "v1", "Scale"));
    }

    #[test]
    fn every_row_is_complete() {
        assert!(all().len() > 30);
        for def in all() {
            assert!(
                !def.kind.is_empty() && !def.singular.is_empty() && def.has_verb("create"),
                "{def:?}"
            );
            assert_eq!(by_resource(&def.gvr), Some(def));
            assert!(
                def.verbs.is_sorted() && def.subresources.iter().all(|s| s.verbs.is_sorted()),
                "{def:?}"
            );
        }
        let events = by_resource(&GroupVersionResource::new("events.k8s.io", "v1", "events")).unwrap();
        assert_eq!(events.storage().to_string(), "events");
    }
}
