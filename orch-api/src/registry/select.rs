//! Label and field selectors on cached objects.

use super::{Resource, resource::Conversion};
use orch_core::{
    Object, Status,
    selector::{FieldSelector, LabelSelector},
};
use std::sync::Arc;

/// Which objects of a resource a request is about.
pub(crate) struct Selection {
    /// Keys begin with this: empty, `namespace/`, or a whole key.
    pub(crate) prefix: String,
    /// Whether `prefix` is one whole key.
    pub(crate) single: bool,
    resource: Arc<Resource>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// The objects of `namespace` (empty: all) that match both selectors.
    pub(crate) fn new(
        resource: Arc<Resource>,
        namespace: &str,
        labels: LabelSelector,
        fields: FieldSelector,
    ) -> Result<Self, Status> {
        for requirement in fields.requirements() {
            let field = requirement.field.as_str();
            if !resource.strategy.supports_field(field) {
                return Err(Status::bad_request(format!("field label not supported: {field}")));
            }
        }
        let namespaced = resource.served.namespaced;
        let valid = |n: &&str| !n.is_empty() && !n.contains('/');
        let namespace = match fields.exact("metadata.namespace").filter(valid) {
            Some(wanted) if namespace.is_empty() && namespaced => wanted,
            _ => namespace,
        };
        let name = fields.exact("metadata.name").filter(valid);
        let (prefix, single) = match (namespaced, namespace, name) {
            (false, _, Some(name)) => (name.to_owned(), true),
            (false, _, None) | (true, "", _) => (String::new(), false),
            (true, namespace, Some(name)) => (format!("{namespace}/{name}"), true),
            (true, namespace, None) => (format!("{namespace}/"), false),
        };
        Ok(Self {
            prefix,
            single,
            resource,
            labels,
            fields,
        })
    }

    /// Whether every object under the prefix is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether a key can belong to a selected object.
    pub(crate) fn covers(&self, key: &str) -> bool {
        if self.single {
            key == self.prefix
        } else {
            key.starts_with(&self.prefix)
        }
    }

    /// Whether a stored object is selected.
    pub(crate) fn matches(&self, object: &Arc<Object>) -> bool {
        // Fields have their names of the served version.
        let converted = matches!(
            self.resource.conversion,
            Conversion::Events | Conversion::Autoscaler
        );
        let object = if converted && !self.fields.is_everything() {
            &self.resource.conversion.served(object)
        } else {
            object
        };
        let value = object.value();
        if !self.labels.is_everything() {
            let labels = value.get("metadata").and_then(|m| m.get("labels"));
            if !self
                .labels
                .matches_with(|key| labels.and_then(|l| l.get(key)).and_then(|v| v.as_str()))
            {
                return false;
            }
        }
        self.fields.requirements().iter().all(|r| {
            let found = match r.field.as_str() {
                "metadata.name" => return (object.name() == r.value) != r.negated,
                "metadata.namespace" => return (object.namespace() == r.value) != r.negated,
                field => self.resource.strategy.field_value(value, field),
            };
            (found == r.value) != r.negated
        })
    }
}
