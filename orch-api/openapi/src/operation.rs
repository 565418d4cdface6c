//! One operation on a path.

use crate::Form;
use crate::parameters::Parameter;
use orch_core::GroupVersionKind;
use serde_json::{Map, Value, json};

/// What a request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    /// An object of this definition.
    Object(Option<String>),
    /// A patch; strategic ones are for built-in types.
    Patch {
        strategic: bool,
    },
    /// Delete options.
    Options,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An object of this definition, or of any type.
    Object(Option<String>),
    /// A stream or text.
    Text,
}

/// An operation.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    /// `x-kubernetes-action`.
    pub(crate) action: &'static str,
    pub(crate) text: String,
    pub(crate) id: String,
    pub(crate) tag: String,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) body: Body,
    pub(crate) answer: Answer,
    /// Codes besides 200.
    pub(crate) codes: &'static [&'static str],
    pub(crate) gvk: GroupVersionKind,
}

pub(crate) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(crate) const OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(crate) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

impl Operation {
    fn patch_types(strategic: bool) -> Vec<&'static str> {
        let mut types = vec!["application/json-patch+json", "application/merge-patch+json"];
        if strategic {
            types.push("application/strategic-merge-patch+json");
        }
        types.push("application/apply-patch+yaml");
        types
    }

    /// The schema of the body, and whether there must be one.
    fn body_schema(&self, form: Form) -> Option<(Value, bool)> {
        let any = || json!({"type": "object"});
        match &self.body {
            Body::None => None,
            Body::Object(name) => Some((name.as_ref().map_or_else(any, |n| form.reference(n)), true)),
            Body::Patch { .. } => Some((form.reference(PATCH), true)),
            Body::Options => Some((form.reference(OPTIONS), false)),
        }
    }

    /// The operation's object in a document.
    pub(crate) fn render(&self, form: Form) -> Value {
        let mut operation = json!({
            "description": self.text,
            "operationId": self.id,
            "tags": [self.tag],
            "x-kubernetes-action": self.action,
            "x-kubernetes-group-version-kind":
                {"group": self.gvk.group, "version": self.gvk.version, "kind": self.gvk.kind},
        });
        let mut parameters: Vec<Value> = self.parameters.iter().map(|p| p.render(form)).collect();
        let schema = match &self.answer {
            Answer::Object(Some(name)) => form.reference(name),
            Answer::Object(None) => json!({"type": "object"}),
            Answer::Text => json!({"type": "string"}),
        };
        let media: &[&str] = match self.answer {
            Answer::Object(_) => &["application/json", "application/yaml"],
            Answer::Text => &["*/*"],
        };
        let body = self.body_schema(form);
        let mut responses = Map::new();
        for code in ["200"].iter().chain(self.codes) {
            let text = match *code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let response = match form {
                Form::V2 => json!({"description": text, "schema": schema}),
                Form::V3 => {
                    let content: Map<String, Value> = media
                        .iter()
                        .map(|m| ((*m).to_owned(), json!({"schema": schema})))
                        .collect();
                    json!({"description": text, "content": content})
                }
            };
            responses.insert((*code).to_owned(), response);
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        operation["responses"] = Value::Object(responses);
        match form {
            Form::V2 => {
                operation["produces"] = json!(media);
                operation["consumes"] = match self.body {
                    Body::Patch { strategic } => json!(Self::patch_types(strategic)),
                    _ => json!(["*/*"]),
                };
                operation["schemes"] = json!(["https"]);
                if let Some((schema, required)) = body {
                    let mut parameter = json!({"in": "body", "name": "body", "schema": schema});
                    if required {
                        parameter["required"] = true.into();
                    }
                    parameters.push(parameter);
                }
            }
            Form::V3 => {
                if let Some((schema, required)) = body {
                    let types = match self.body {
                        Body::Patch { strategic } => Self::patch_types(strategic),
                        _ => vec!["application/json", "application/yaml"],
                    };
                    let content: Map<String, Value> = types
                        .into_iter()
                        .map(|t| (t.to_owned(), json!({"schema": schema})))
                        .collect();
                    operation["requestBody"] = json!({"content": content});
                    if required {
                        operation["requestBody"]["required"] = true.into();
                    }
                }
            }
        }
        if !parameters.is_empty() {
            operation["parameters"] = Value::Array(parameters);
        }
        operation
    }
}
