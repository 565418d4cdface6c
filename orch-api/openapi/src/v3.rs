//! The v3 document of a group-version.

use crate::definition::{Definitions, references};
use crate::describe::Descriptions;
use crate::{Form, Served, crd, paths};
use bytes::Bytes;
use serde_json::{Map, Value, json};

pub(crate) fn build(resources: &[Served]) -> Bytes {
    let texts = Descriptions::load();
    let definitions = Definitions::new(Form::V3, &texts);
    let mut rendered = Map::new();
    let mut schemas = Map::new();
    let mut names = Vec::new();
    for served in resources {
        for item in paths::of(served) {
            names.extend(item.references());
            rendered.insert(item.path.clone(), item.render(Form::V3));
        }
        for (name, definition) in crd::definitions(served, Form::V3) {
            references(&definition, &mut names);
            schemas.insert(name, definition);
        }
    }
    for name in definitions.closure(names) {
        let definition = definitions.make(&name);
        schemas.insert(name, definition);
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": Value::Object(rendered),
        "components": {
            "schemas": Value::Object(schemas),
            "securitySchemes": {"BearerToken":
                {"description": "Bearer token", "in": "header", "name": "authorization", "type": "apiKey"}},
        },
    });
    Bytes::from(document.to_string())
}
