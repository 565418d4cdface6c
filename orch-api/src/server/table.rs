//! The served resources, built-in and custom, as one immutable snapshot that discovery, OpenAPI and dispatch read.

use orch_core::{GroupResource, GroupVersion};
use orch_kinds::resources::ResourceDef;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What a custom resource's version adds to a [`ServedResource`].
#[derive(Debug)]
pub struct CustomFacts {
    /// Name of the CustomResourceDefinition.
    pub crd: String,
    /// The version's `openAPIV3Schema`, `Null` if it has none.
    pub schema: Arc<Value>,
    /// Whether unknown fields are pruned.
    pub prune: bool,
    /// `additionalPrinterColumns` as written in the definition (array) or `Null`.
    pub columns: Value,
    /// `subresources.scale` as written in the definition, or `Null`.
    pub scale: Value,
    /// `selectableFields` as JSON paths without the leading dot.
    pub selectable_fields: Vec<String>,
    /// Version in which objects are stored.
    pub storage_version: String,
}

/// One served resource in one version. Its names, verbs and subresources are reached through `Deref`.
#[derive(Debug)]
pub struct ServedResource {
    /// Names, scope, verbs, subresources.
    pub def: ResourceDef,
    /// Set for custom resources.
    pub custom: Option<Arc<CustomFacts>>,
}

impl std::ops::Deref for ServedResource {
    type Target = ResourceDef;
    fn deref(&self) -> &ResourceDef {
        &self.def
    }
}

impl ServedResource {
    /// `apiVersion` of its objects.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.gvr.group_version().to_string()
    }
}

/// A served group with its versions, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedGroup {
    /// Name, empty for core.
    pub name: String,
    /// Versions, the preferred one first.
    pub versions: Vec<String>,
}

/// Everything that is served, at one moment.
#[derive(Debug, Default)]
pub struct ResourceTable {
    /// Grows with every change.
    pub generation: u64,
    groups: Vec<ServedGroup>,
    resources: Vec<Arc<ServedResource>>,
    by_gvr: HashMap<String, HashMap<String, HashMap<String, usize>>>,
}

impl ResourceTable {
    /// A table of `resources`; their order, and of their groups and versions, is kept within built-ins. Groups of
    /// custom resources follow in name order, versions by Kubernetes' version priority.
    #[must_use]
    pub fn new(generation: u64, resources: Vec<Arc<ServedResource>>) -> Self {
        let mut groups: Vec<ServedGroup> = Vec::new();
        let mut custom: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut by_gvr: HashMap<String, HashMap<String, HashMap<String, usize>>> = HashMap::new();
        for (index, r) in resources.iter().enumerate() {
            let (g, v) = (&r.gvr.group, &r.gvr.version);
            by_gvr
                .entry(g.clone())
                .or_default()
                .entry(v.clone())
                .or_default()
                .insert(r.gvr.resource.clone(), index);
            if let Some(group) = groups.iter_mut().find(|x| x.name == *g) {
                if !group.versions.contains(v) {
                    group.versions.push(v.clone());
                }
            } else if r.custom.is_none() {
                groups.push(ServedGroup {
                    name: g.clone(),
                    versions: vec![v.clone()],
                });
            } else {
                let versions = custom.entry(g).or_default();
                if !versions.contains(v) {
                    versions.push(v.clone());
                }
            }
        }
        for (name, mut versions) in custom {
            versions.sort_by(|a, b| {
                version_priority(b)
                    .cmp(&version_priority(a))
                    .then_with(|| a.cmp(b))
            });
            groups.push(ServedGroup {
                name: name.to_owned(),
                versions,
            });
        }
        Self {
            generation,
            groups,
            resources,
            by_gvr,
        }
    }

    /// The served groups in discovery order.
    #[must_use]
    pub fn groups(&self) -> &[ServedGroup] {
        &self.groups
    }
    /// Every served resource.
    #[must_use]
    pub fn resources(&self) -> &[Arc<ServedResource>] {
        &self.resources
    }
    /// The resources of one group and version, in name order.
    #[must_use]
    pub fn of(&self, gv: &GroupVersion) -> Vec<&Arc<ServedResource>> {
        let mut found: Vec<_> = self
            .resources
            .iter()
            .filter(|r| r.gvr.group == gv.group && r.gvr.version == gv.version)
            .collect();
        found.sort_by(|a, b| a.gvr.resource.cmp(&b.gvr.resource));
        found
    }
    /// One resource in one version.
    #[must_use]
    pub fn get(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<ServedResource>> {
        self.by_gvr
            .get(group)?
            .get(version)?
            .get(resource)
            .map(|i| &self.resources[*i])
    }
    /// Place in [`ResourceTable::resources`] of one resource in one version.
    #[must_use]
    pub fn index(&self, group: &str, version: &str, resource: &str) -> Option<usize> {
        self.by_gvr.get(group)?.get(version)?.get(resource).copied()
    }
    /// A resource in its preferred version.
    #[must_use]
    pub fn preferred(&self, gr: &GroupResource) -> Option<&Arc<ServedResource>> {
        let group = self.groups.iter().find(|g| g.name == gr.group)?;
        group
            .versions
            .iter()
            .find_map(|v| self.get(&gr.group, v, &gr.resource))
    }
    /// The resource of a kind in one version.
    #[must_use]
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<ServedResource>> {
        self.resources
            .iter()
            .find(|r| r.gvr.group == group && r.gvr.version == version && r.kind == kind)
    }
}

/// Orders versions as Kubernetes does: GA before beta before alpha, higher numbers first, anything else last.
#[must_use]
pub fn version_priority(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u32 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        if tail.is_empty() {
            return Some((3, major, 0));
        }
        let (level, minor) = if let Some(m) = tail.strip_prefix("beta") {
            (2, m)
        } else {
            (1, tail.strip_prefix("alpha")?)
        };
        Some((level, major, minor.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_priority_order() {
        let mut v = [
            "foo1",
            "v1alpha1",
            "v11alpha2",
            "v2",
            "v3beta1",
            "v10",
            "v10beta3",
            "v12alpha1",
        ];
        v.sort_by_key(|b| std::cmp::Reverse(version_priority(b)));
        assert_eq!(
            v,
            [
                "v10",
                "v2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "v1alpha1",
                "foo1"
            ]
        );
    }
}
