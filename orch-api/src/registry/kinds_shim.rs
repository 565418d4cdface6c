//! Stand-in until the kinds crate exports these.
#![allow(missing_docs, clippy::needless_pass_by_value)]
pub(crate) mod strategy {
    use orch_core::GroupVersionKind;
    use serde_json::Value;
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Behavior {
        pub(crate) create_on_update: bool,
        pub(crate) unconditional_update: bool,
        pub(crate) propagation: Propagation,
    }
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[allow(dead_code)]
    pub(crate) enum Propagation {
        Background,
        Orphan,
        Unsupported,
    }
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[allow(dead_code)]
    pub(crate) enum Deletion {
        Now,
        Marked,
        Pending,
    }
    pub(crate) fn behavior(_: &GroupVersionKind) -> Behavior {
        Behavior {
            create_on_update: false,
            unconditional_update: true,
            propagation: Propagation::Background,
        }
    }
    pub(crate) fn prepare_for_create(_: &GroupVersionKind, _: &mut Value) {}
    pub(crate) fn prepare_for_update(_: &GroupVersionKind, new: &mut Value, old: &Value) {
        new["metadata"]["uid"] = old["metadata"]["uid"].clone();
        new["metadata"]["creationTimestamp"] = old["metadata"]["creationTimestamp"].clone();
    }
    pub(crate) fn prepare_for_subresource(g: &GroupVersionKind, _: &str, new: &mut Value, old: &Value) {
        prepare_for_update(g, new, old)
    }
    pub(crate) fn canonicalize(_: &GroupVersionKind, _: &mut Value) {}
    pub(crate) fn warnings_on_create(_: &GroupVersionKind, _: &Value) -> Vec<String> {
        vec![]
    }
    pub(crate) fn warnings_on_update(_: &GroupVersionKind, _: &Value, _: &Value) -> Vec<String> {
        vec![]
    }
    pub(crate) fn supports_field(_: &GroupVersionKind, f: &str) -> bool {
        f.starts_with("metadata.") || f == "spec.nodeName"
    }
    pub(crate) fn field_value(_: &GroupVersionKind, o: &Value, f: &str) -> String {
        o.pointer(&format!("/{}", f.replace('.', "/")))
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    }
    pub(crate) fn mark_for_deletion(
        _: &GroupVersionKind,
        _: &mut Value,
        _: Option<i64>,
        _: jiff::Timestamp,
    ) -> Deletion {
        Deletion::Now
    }
}
pub(crate) mod validate {
    use orch_core::GroupVersionKind;
    use orch_kinds::field::FieldErrors;
    use serde_json::Value;
    pub(crate) fn validate_create(_: &GroupVersionKind, _: &Value) -> FieldErrors {
        FieldErrors::new()
    }
    pub(crate) fn validate_update(_: &GroupVersionKind, _: &Value, _: &Value) -> FieldErrors {
        FieldErrors::new()
    }
    pub(crate) fn validate_subresource(_: &GroupVersionKind, _: &str, _: &Value, _: &Value) -> FieldErrors {
        FieldErrors::new()
    }
}
