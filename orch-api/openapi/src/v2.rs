//! The v2 document of everything, in JSON and protobuf at once.

use crate::definition::{Definitions, references};
use crate::describe::Descriptions;
use crate::gnostic::{self, Message};
use crate::{Form, Served, crd, paths};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The document in both encodings.
#[derive(Debug, Clone)]
pub(crate) struct Both {
    pub(crate) json: Bytes,
    pub(crate) protobuf: Bytes,
}

/// Collects the members of a JSON object and of the protobuf message that stands for it, one by one, so that the
/// whole document never exists as a tree.
struct Members {
    json: String,
    protobuf: Message,
    field: u32,
    encode: fn(&Value) -> Message,
}

impl Members {
    fn new(field: u32, encode: fn(&Value) -> Message) -> Self {
        Self {
            json: String::from("{"),
            protobuf: Message::default(),
            field,
            encode,
        }
    }
    fn add(&mut self, name: &str, value: &Value) {
        if self.json.len() > 1 {
            self.json.push(',');
        }
        self.json.push_str(&Value::from(name).to_string());
        self.json.push(':');
        self.json.push_str(&value.to_string());
        self.protobuf
            .message(self.field, &gnostic::named(name, (self.encode)(value)));
    }
    fn finish(mut self) -> (String, Message) {
        self.json.push('}');
        (self.json, self.protobuf)
    }
}

pub(crate) fn build<'a>(resources: impl Iterator<Item = &'a Served>) -> Both {
    let texts = Descriptions::load();
    let definitions = Definitions::new(Form::V2, &texts);
    let mut items = BTreeMap::new();
    let mut custom = BTreeMap::new();
    let mut names = Vec::new();
    for served in resources {
        for item in paths::of(served) {
            names.extend(item.references());
            items.insert(item.path.clone(), item);
        }
        for (name, definition) in crd::definitions(served, Form::V2) {
            references(&definition, &mut names);
            custom.insert(name, definition);
        }
    }
    let mut schemas = Members::new(1, gnostic::schema);
    for name in definitions.closure(names) {
        schemas.add(&name, &definitions.make(&name));
    }
    for (name, definition) in &custom {
        schemas.add(name, definition);
    }
    let mut rendered = Members::new(2, gnostic::path_item);
    for (path, item) in &items {
        rendered.add(path, &item.render(Form::V2));
    }
    let (schemas_json, schemas_pb) = schemas.finish();
    let (paths_json, paths_pb) = rendered.finish();
    let info = json!({"title": "Kubernetes", "version": "v1.36.0"});
    let token =
        json!({"description": "Bearer token", "in": "header", "name": "authorization", "type": "apiKey"});
    let json = format!(
        "{{\"swagger\":\"2.0\",\"info\":{info},\"paths\":{paths_json},\"definitions\":{schemas_json},\
         \"security\":[{{\"BearerToken\":[]}}],\"securityDefinitions\":{{\"BearerToken\":{token}}}}}"
    );
    Both {
        json: Bytes::from(json),
        protobuf: Bytes::from(gnostic::document(&info, &paths_pb, &schemas_pb, &token)),
    }
}
