//! The paths of a resource and the operations on them.

use crate::operation::{Answer, Body, OPTIONS, Operation, PATCH as PATCH_TYPE, STATUS};
use crate::parameters::{self as p, Parameter};
use crate::{Form, Served, crd};
use orch_core::GroupVersionKind;
use orch_kinds::resources::{ResourceDef, SubresourceDef};
use orch_kinds::schema;
use serde_json::{Map, Value};

/// The path of the resource's group-version, without the leading slash: `api/v1`, `apis/apps/v1`.
pub(crate) fn root(resource: &ResourceDef) -> String {
    let gvr = &resource.gvr;
    if gvr.group.is_empty() {
        format!("api/{}", gvr.version)
    } else {
        format!("apis/{}/{}", gvr.group, gvr.version)
    }
}

/// The definition of a kind, if there is one.
fn definition_of(gvk: &GroupVersionKind) -> Option<String> {
    schema::builtin(gvk).map(|ty| format!("io.k8s.{}", ty.ty().name()))
}

/// A path with its parameters and operations.
pub(crate) struct PathItem {
    pub(crate) path: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) operations: Vec<Operation>,
}

impl PathItem {
    pub(crate) fn render(&self, form: Form) -> Value {
        let mut item: Map<String, Value> = self
            .operations
            .iter()
            .map(|o| (o.method.to_owned(), o.render(form)))
            .collect();
        let parameters = self
            .parameters
            .iter()
            .chain([&p::PRETTY])
            .map(|p| p.render(form))
            .collect();
        item.insert("parameters".into(), Value::Array(parameters));
        Value::Object(item)
    }

    /// The names of the definitions that the operations refer to.
    pub(crate) fn references(&self) -> Vec<String> {
        let mut names = Vec::new();
        for operation in &self.operations {
            match &operation.body {
                Body::Object(name) => names.extend(name.clone()),
                Body::Patch { .. } => names.push(PATCH_TYPE.into()),
                Body::Options => names.push(OPTIONS.into()),
                Body::None => {}
            }
            if let Answer::Object(name) = &operation.answer {
                names.extend(name.clone());
            }
        }
        names
    }
}

/// `rbac.authorization.k8s.io` to `RbacAuthorization`; the core group to `Core`.
fn group_name(group: &str) -> String {
    let group = if group.is_empty() {
        "core"
    } else {
        group.strip_suffix(".k8s.io").unwrap_or(group)
    };
    group.split(['.', '-']).map(capital).collect()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|c| c.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}

struct Builder<'a> {
    resource: &'a ResourceDef,
    custom: bool,
    object: Option<String>,
    list: Option<String>,
    group: String,
    tag: String,
}

/// The paths of one resource.
pub(crate) fn of(served: &Served) -> Vec<PathItem> {
    let resource = &served.resource;
    let custom = served.schema.is_some();
    let (object, list) = if custom {
        let (object, list) = crd::names(resource);
        (Some(object), Some(list))
    } else {
        (
            definition_of(&resource.gvk()),
            definition_of(&resource.list_gvk()),
        )
    };
    let group = group_name(&resource.gvr.group);
    let mut first = group.chars();
    let lower: String = first
        .next()
        .map(|c| c.to_lowercase().chain(first).collect())
        .unwrap_or_default();
    let tag = format!("{lower}_{}", resource.gvr.version);
    Builder {
        resource,
        custom,
        object,
        list,
        group: format!("{group}{}", capital(&resource.gvr.version)),
        tag,
    }
    .paths()
}

impl Builder<'_> {
    fn paths(&self) -> Vec<PathItem> {
        let resource = self.resource;
        let name = &resource.gvr.resource;
        let base = format!("/{}", root(resource));
        let mut items = Vec::new();
        let (collection, scope) = if resource.namespaced {
            if resource.has_verb("list") {
                let list =
                    self.list_operation(&format!("list{}{}ForAllNamespaces", self.group, resource.kind));
                items.push(PathItem {
                    path: format!("{base}/{name}"),
                    parameters: Vec::new(),
                    operations: vec![list],
                });
            }
            (
                format!("{base}/namespaces/{{namespace}}/{name}"),
                vec![p::NAMESPACE],
            )
        } else {
            (format!("{base}/{name}"), Vec::new())
        };
        let operations = self.collection_operations();
        if !operations.is_empty() {
            items.push(PathItem {
                path: collection.clone(),
                parameters: scope.clone(),
                operations,
            });
        }
        let one: Vec<Parameter> = [p::NAME].into_iter().chain(scope).collect();
        let operations = self.object_operations();
        if !operations.is_empty() {
            items.push(PathItem {
                path: format!("{collection}/{{name}}"),
                parameters: one.clone(),
                operations,
            });
        }
        for subresource in &resource.subresources {
            let operations = self.subresource_operations(subresource);
            if !operations.is_empty() {
                let path = format!("{collection}/{{name}}/{}", subresource.name);
                items.push(PathItem {
                    path,
                    parameters: one.clone(),
                    operations,
                });
            }
        }
        items
    }

    fn id(&self, verb: &str, suffix: &str) -> String {
        let scope = if self.resource.namespaced {
            "Namespaced"
        } else {
            ""
        };
        format!("{verb}{}{scope}{}{suffix}", self.group, self.resource.kind)
    }

    fn operation(&self, method: &'static str, action: &'static str, text: String, id: String) -> Operation {
        Operation {
            method,
            action,
            text,
            id,
            tag: self.tag.clone(),
            parameters: &[],
            body: Body::None,
            answer: Answer::Object(self.object.clone()),
            codes: &[],
            gvk: self.resource.gvk(),
        }
    }

    fn list_operation(&self, id: &str) -> Operation {
        let kind = &self.resource.kind;
        let text = format!("list or watch objects of kind {kind}");
        Operation {
            parameters: &p::LIST,
            answer: Answer::Object(self.list.clone()),
            ..self.operation("get", "list", text, id.to_owned())
        }
    }

    fn collection_operations(&self) -> Vec<Operation> {
        let kind = &self.resource.kind;
        let mut operations = Vec::new();
        if self.resource.has_verb("list") {
            operations.push(self.list_operation(&self.id("list", "")));
        }
        if self.resource.has_verb("create") {
            operations.push(Operation {
                parameters: &p::WRITE,
                body: Body::Object(self.object.clone()),
                codes: &["201", "202"],
                ..self.operation("post", "post", format!("create a {kind}"), self.id("create", ""))
            });
        }
        if self.resource.has_verb("deletecollection") {
            let id = self
                .id("deleteCollection", "")
                .replacen("deleteCollection", "delete", 1);
            let id = id.replacen(&self.group, &format!("{}Collection", self.group), 1);
            operations.push(Operation {
                parameters: &p::LIST,
                body: Body::Options,
                answer: Answer::Object(Some(STATUS.into())),
                ..self.operation(
                    "delete",
                    "deletecollection",
                    format!("delete collection of {kind}"),
                    id,
                )
            });
        }
        operations
    }

    fn object_operations(&self) -> Vec<Operation> {
        let kind = &self.resource.kind;
        let mut operations = Vec::new();
        for verb in ["get", "update", "patch", "delete"] {
            if self.resource.has_verb(verb) {
                let mut operation = self.write_or_read(verb, &format!("the specified {kind}"), "");
                if verb == "delete" {
                    operation.answer = Answer::Object(Some(STATUS.into()));
                }
                operations.push(operation);
            }
        }
        operations
    }

    fn write_or_read(&self, verb: &str, what: &str, suffix: &str) -> Operation {
        match verb {
            "get" => self.operation("get", "get", format!("read {what}"), self.id("read", suffix)),
            "update" => Operation {
                parameters: &p::WRITE,
                body: Body::Object(self.object.clone()),
                codes: &["201"],
                ..self.operation(
                    "put",
                    "put",
                    format!("replace {what}"),
                    self.id("replace", suffix),
                )
            },
            "patch" => Operation {
                parameters: &p::PATCH,
                body: Body::Patch {
                    strategic: !self.custom,
                },
                codes: &["201"],
                ..self.operation(
                    "patch",
                    "patch",
                    format!("partially update {what}"),
                    self.id("patch", suffix),
                )
            },
            "delete" => Operation {
                parameters: &p::DELETE,
                body: Body::Options,
                codes: &["202"],
                ..self.operation(
                    "delete",
                    "delete",
                    format!("delete {what}"),
                    self.id("delete", suffix),
                )
            },
            _ => Operation {
                parameters: &p::WRITE,
                body: Body::Object(self.object.clone()),
                codes: &["201", "202"],
                ..self.operation(
                    "post",
                    "post",
                    format!("create {what}"),
                    self.id("create", suffix),
                )
            },
        }
    }

    fn subresource_operations(&self, subresource: &SubresourceDef) -> Vec<Operation> {
        let kind = &self.resource.kind;
        let suffix = capital(&subresource.name);
        let what = format!("{} of the specified {kind}", subresource.name);
        let connects: Option<&'static [Parameter]> = match subresource.name.as_str() {
            "exec" | "attach" => Some(&p::STREAM),
            "portforward" => Some(&p::PORTS),
            "proxy" => Some(&p::PROXY),
            _ => None,
        };
        let definition = if subresource.gvk == self.resource.gvk() {
            self.object.clone()
        } else {
            definition_of(&subresource.gvk)
        };
        let mut operations: Vec<Operation> = Vec::new();
        for verb in &subresource.verbs {
            let mut operation = self.write_or_read(verb, &what, &suffix);
            operation.gvk = subresource.gvk.clone();
            if let Some(parameters) = connects {
                operation = Operation {
                    action: "connect",
                    text: format!("connect {} requests to {what}", operation.method.to_uppercase()),
                    id: self.id(&format!("connect{}", capital(operation.method)), &suffix),
                    parameters,
                    body: Body::None,
                    answer: Answer::Text,
                    codes: &[],
                    ..operation
                };
            } else if subresource.name == "log" {
                operation = Operation {
                    parameters: &p::LOG,
                    answer: Answer::Text,
                    ..operation
                };
            } else {
                operation.answer = Answer::Object(definition.clone());
                if matches!(operation.body, Body::Object(_)) {
                    operation.body = Body::Object(definition.clone());
                }
            }
            if !operations.iter().any(|o| o.method == operation.method) {
                operations.push(operation);
            }
        }
        operations
    }
}
