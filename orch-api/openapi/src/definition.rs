//! Schemas of the built-in types.

use crate::Form;
use crate::describe::Descriptions;
use orch_kinds::schema::{
    Field, Fields, Kind, ListKind, Scalar, Ty, TypeRef, builtin_definition, builtin_kinds,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

impl Form {
    /// A reference to a definition.
    pub(crate) fn reference(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Self::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// Makes definitions and what they refer to.
pub(crate) struct Definitions<'a> {
    pub(crate) form: Form,
    pub(crate) texts: &'a Descriptions,
    /// Definition name to the kinds that it is.
    kinds: BTreeMap<String, Vec<Value>>,
}

impl<'a> Definitions<'a> {
    pub(crate) fn new(form: Form, texts: &'a Descriptions) -> Self {
        let mut kinds: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (gvk, ty) in builtin_kinds() {
            let gvk = json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
            kinds
                .entry(format!("io.k8s.{}", ty.ty().name()))
                .or_default()
                .push(gvk);
        }
        Self { form, texts, kinds }
    }

    /// The definitions with these names and all that they refer to, in name order. Names that are not built-in types
    /// are passed over.
    pub(crate) fn closure(&self, roots: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open: Vec<String> = roots.into_iter().collect();
        while let Some(name) = open.pop() {
            if special(&name, self.form).is_none() && builtin_definition(&name).is_none() {
                continue;
            }
            if found.insert(name.clone()) {
                references(&self.make(&name), &mut open);
            }
        }
        found
    }

    /// One definition.
    pub(crate) fn make(&self, name: &str) -> Value {
        let mut schema = match special(name, self.form) {
            Some(schema) => schema,
            None => builtin_definition(name).map_or_else(Map::new, |ty| self.structure(name, &ty)),
        };
        schema.extend(
            self.texts
                .of_type(name)
                .map(|text| ("description".to_owned(), Value::String(text))),
        );
        if let Some(kinds) = self.kinds.get(name) {
            schema.insert(
                "x-kubernetes-group-version-kind".into(),
                Value::Array(kinds.clone()),
            );
        }
        Value::Object(schema)
    }

    fn structure(&self, name: &str, ty: &TypeRef) -> Map<String, Value> {
        let mut schema = Map::from_iter([("type".to_owned(), json!("object"))]);
        let Kind::Struct(fields) = ty.ty().kind() else {
            return schema;
        };
        if fields.atomic() {
            schema.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
        let required: Vec<&str> = fields
            .all()
            .iter()
            .filter(|f| f.required())
            .map(Field::name)
            .collect();
        if !required.is_empty() {
            schema.insert("required".into(), json!(required));
        }
        let properties: Map<String, Value> = fields
            .all()
            .iter()
            .map(|f| (f.name().to_owned(), self.property(name, fields, f)))
            .collect();
        if !properties.is_empty() {
            schema.insert("properties".into(), Value::Object(properties));
        }
        schema
    }

    fn property(&self, owner: &str, fields: Fields<'_>, field: &Field) -> Value {
        let ty = fields.type_of(field);
        let mut schema = match any_type(owner, field.name()) {
            Some((name, wrap)) => wrap(self.form.reference(&format!("{APIEXTENSIONS}.{name}"))),
            None if owner == format!("{META}.ManagedFieldsEntry") && field.name() == "fieldsV1" => {
                self.form.reference(&format!("{META}.FieldsV1"))
            }
            None => self.type_schema(ty, false),
        };
        let mut facts = Map::new();
        facts.extend(
            self.texts
                .of_field(owner, field.name())
                .map(|t| ("description".to_owned(), Value::String(t))),
        );
        merge_facts(ty, field, &mut facts);
        if self.form == Form::V3 {
            if let Some(default) = field.default() {
                facts.insert("default".into(), default.clone());
            } else if field.zero_default() {
                facts.extend(zero(ty).map(|z| ("default".to_owned(), z)));
            }
            let values: Vec<&str> = field.values().collect();
            if !values.is_empty() {
                // The values of a list's or map's items belong to the items.
                let holder = match ty.kind() {
                    Kind::List { .. } => schema.get_mut("items"),
                    Kind::Map { .. } => schema.get_mut("additionalProperties"),
                    _ => Some(&mut schema),
                };
                if let Some(Value::Object(holder)) = holder {
                    holder.insert("enum".into(), json!(values));
                }
            }
        }
        // Beside a reference nothing else may stand in v3.
        if self.form == Form::V3 && schema.get("$ref").is_some() && !facts.is_empty() {
            schema = json!({"allOf": [schema]});
        }
        if let Value::Object(schema) = &mut schema {
            schema.extend(facts);
        }
        schema
    }

    /// The schema of a value of a type. `inner` says that it is an item of a list or map.
    fn type_schema(&self, ty: Ty<'_>, inner: bool) -> Value {
        let reference = |name: &str| self.form.reference(name);
        let item = |ty: Ty<'_>| self.type_schema(ty, true);
        match ty.kind() {
            Kind::Scalar(scalar) => match scalar {
                Scalar::String => json!({"type": "string"}),
                Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
                Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
                Scalar::Double => json!({"type": "number", "format": "double"}),
                Scalar::Bool => json!({"type": "boolean"}),
                Scalar::Bytes => json!({"type": "string", "format": "byte"}),
                Scalar::Time => reference(&format!("{META}.Time")),
                Scalar::MicroTime => reference(&format!("{META}.MicroTime")),
                Scalar::Quantity => reference("io.k8s.apimachinery.pkg.api.resource.Quantity"),
                Scalar::IntOrString => reference("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
            },
            Kind::Raw => reference("io.k8s.apimachinery.pkg.runtime.RawExtension"),
            Kind::Any | Kind::Deduced if inner => json!({}),
            Kind::Any | Kind::Deduced => json!({"type": "object"}),
            Kind::List { elem, .. } => json!({"type": "array", "items": item(elem)}),
            Kind::Map { value, .. } => json!({"type": "object", "additionalProperties": item(value)}),
            Kind::Struct(fields) => reference(&format!("io.k8s.{}", fields.name())),
        }
    }
}

/// Types that are not structs, by definition name.
fn special(name: &str, form: Form) -> Option<Map<String, Value>> {
    let schema = match (name.rsplit('.').next()?, form) {
        ("Quantity", Form::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ("Quantity", Form::V2) => json!({"type": "string"}),
        ("IntOrString", Form::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        ("IntOrString", Form::V2) => json!({"format": "int-or-string", "type": "string"}),
        ("Time" | "MicroTime", _) if name.starts_with(META) => {
            json!({"format": "date-time", "type": "string"})
        }
        ("RawExtension", _) => json!({"type": "object"}),
        ("FieldsV1" | "Patch", _) if name.starts_with(META) => json!({"type": "object"}),
        ("JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray", _)
            if name.starts_with(APIEXTENSIONS) =>
        {
            json!({})
        }
        _ => return None,
    };
    match schema {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

type Wrap = fn(Value) -> Value;

/// The fields of the CRD types that take more than one form.
fn any_type(owner: &str, field: &str) -> Option<(&'static str, Wrap)> {
    if owner.strip_prefix(APIEXTENSIONS) != Some(".JSONSchemaProps") {
        return None;
    }
    let plain: Wrap = |r| r;
    Some(match field {
        "default" | "example" => ("JSON", plain),
        "enum" => ("JSON", |r| json!({"type": "array", "items": r})),
        "items" => ("JSONSchemaPropsOrArray", plain),
        "additionalItems" | "additionalProperties" => ("JSONSchemaPropsOrBool", plain),
        "dependencies" => (
            "JSONSchemaPropsOrStringArray",
            |r| json!({"type": "object", "additionalProperties": r}),
        ),
        _ => return None,
    })
}

/// The zero value, where v3 documents give it as the default.
fn zero(ty: Ty<'_>) -> Option<Value> {
    Some(match ty.kind() {
        Kind::Scalar(Scalar::String) => json!(""),
        Kind::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double) => json!(0),
        Kind::Scalar(Scalar::Bool) => json!(false),
        Kind::Struct(_) => json!({}),
        _ => return None,
    })
}

fn merge_facts(ty: Ty<'_>, field: &Field, facts: &mut Map<String, Value>) {
    if let Kind::List { kind, .. } = ty.kind() {
        match kind {
            ListKind::Atomic => {
                if field.has_list_type() {
                    facts.insert("x-kubernetes-list-type".into(), json!("atomic"));
                }
            }
            ListKind::Set => {
                facts.insert("x-kubernetes-list-type".into(), json!("set"));
            }
            ListKind::Map(keys) => {
                facts.insert("x-kubernetes-list-type".into(), json!("map"));
                facts.insert("x-kubernetes-list-map-keys".into(), json!(keys));
            }
        }
    }
    match ty.kind() {
        Kind::Map { atomic: true, .. } => {
            facts.insert("x-kubernetes-map-type".into(), json!("atomic"));
        }
        Kind::Struct(here) => {
            let of_type = builtin_definition(here.name())
                .map(|t| matches!(t.ty().kind(), Kind::Struct(f) if f.atomic()));
            if of_type.is_some_and(|atomic| atomic != here.atomic()) {
                facts.insert(
                    "x-kubernetes-map-type".into(),
                    json!(if here.atomic() { "atomic" } else { "granular" }),
                );
            }
        }
        _ => {}
    }
    let strategy = field.strategy();
    let named: Vec<&str> = [
        (strategy.merge, "merge"),
        (strategy.retain_keys, "retainKeys"),
        (strategy.replace, "replace"),
    ]
    .into_iter()
    .filter_map(|(on, name)| on.then_some(name))
    .collect();
    if !named.is_empty() {
        facts.insert("x-kubernetes-patch-strategy".into(), json!(named.join(",")));
    }
    if let Some(key) = field.merge_key() {
        facts.insert("x-kubernetes-patch-merge-key".into(), json!(key));
    }
}

/// Collects the names of the definitions that a schema refers to.
pub(crate) fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(target) if key == "$ref" => {
                        found.extend(target.rsplit('/').next().map(str::to_owned));
                    }
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|i| references(i, found)),
        _ => {}
    }
}
