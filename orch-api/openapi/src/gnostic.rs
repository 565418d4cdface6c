//! The protobuf form of an OpenAPI v2 document: gnostic's `openapi.v2.Document`, made from the JSON form.
//!
//! Only the messages and fields that the documents of this crate use are written; numbers are those of gnostic's
//! `OpenAPIv2.proto`. Values of free form (extensions, defaults, enum values) are YAML texts, of which JSON is one
//! spelling.

use serde_json::Value;

/// A protobuf message being written.
#[derive(Debug, Default, Clone)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    /// A nested message.
    pub(crate) fn message(&mut self, field: u32, message: &Self) {
        self.bytes(field, &message.0);
    }
    /// A string that is there, even if it is empty.
    fn string(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }
    /// A string member of a JSON object, if it is there.
    fn text(&mut self, field: u32, value: &Value, key: &str) {
        if let Some(text) = value.get(key).and_then(Value::as_str) {
            self.string(field, text);
        }
    }
    fn flag(&mut self, field: u32, value: &Value, key: &str) {
        if value.get(key).and_then(Value::as_bool) == Some(true) {
            self.varint(u64::from(field) << 3);
            self.varint(1);
        }
    }
    fn integer(&mut self, field: u32, value: &Value, key: &str) {
        if let Some(n) = value.get(key).and_then(Value::as_u64) {
            self.varint(u64::from(field) << 3);
            self.varint(n);
        }
    }
    fn double(&mut self, field: u32, value: &Value, key: &str) {
        if let Some(n) = value.get(key).and_then(Value::as_f64) {
            self.varint(u64::from(field) << 3 | 1);
            self.0.extend_from_slice(&n.to_le_bytes());
        }
    }
    fn strings(&mut self, field: u32, value: &Value, key: &str) {
        for text in value
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            self.string(field, text);
        }
    }
    /// All members whose names begin with `x-`.
    fn extensions(&mut self, field: u32, value: &Value) {
        for (name, extension) in value
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, _)| k.starts_with("x-"))
        {
            self.message(field, &named(name, any(extension)));
        }
    }
    /// The one nested message in a message of alternatives.
    fn only(field: u32, message: &Self) -> Self {
        let mut outer = Self::default();
        outer.message(field, message);
        outer
    }
}

/// `NamedX`: a name and a value.
pub(crate) fn named(name: &str, value: Message) -> Message {
    let mut out = Message::default();
    out.string(1, name);
    out.message(2, &value);
    out
}

fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.string(2, &value.to_string());
    out
}

/// `Schema`.
pub(crate) fn schema(v: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, v, "$ref");
    out.text(2, v, "format");
    out.text(3, v, "title");
    out.text(4, v, "description");
    if let Some(default) = v.get("default") {
        out.message(5, &any(default));
    }
    out.double(6, v, "multipleOf");
    out.double(7, v, "maximum");
    out.flag(8, v, "exclusiveMaximum");
    out.double(9, v, "minimum");
    out.flag(10, v, "exclusiveMinimum");
    out.integer(11, v, "maxLength");
    out.integer(12, v, "minLength");
    out.text(13, v, "pattern");
    out.integer(14, v, "maxItems");
    out.integer(15, v, "minItems");
    out.flag(16, v, "uniqueItems");
    out.integer(17, v, "maxProperties");
    out.integer(18, v, "minProperties");
    out.strings(19, v, "required");
    for value in v.get("enum").and_then(Value::as_array).into_iter().flatten() {
        out.message(20, &any(value));
    }
    match v.get("additionalProperties") {
        Some(Value::Bool(b)) => {
            let mut item = Message::default();
            item.varint(2 << 3);
            item.varint(u64::from(*b));
            out.message(21, &item);
        }
        Some(value) => out.message(21, &Message::only(1, &schema(value))),
        None => {}
    }
    if let Some(ty) = v.get("type").and_then(Value::as_str) {
        let mut item = Message::default();
        item.string(1, ty);
        out.message(22, &item);
    }
    if let Some(items) = v.get("items") {
        out.message(23, &Message::only(1, &schema(items)));
    }
    for part in v.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        out.message(24, &schema(part));
    }
    if let Some(properties) = v.get("properties").and_then(Value::as_object) {
        let mut list = Message::default();
        for (name, property) in properties {
            list.message(1, &named(name, schema(property)));
        }
        out.message(25, &list);
    }
    out.extensions(31, v);
    out
}

/// `ParametersItem`.
fn parameter(v: &Value) -> Message {
    let mut out = Message::default();
    let wrapped = match v.get("in").and_then(Value::as_str) {
        Some("body") => {
            out.text(1, v, "description");
            out.text(2, v, "name");
            out.text(3, v, "in");
            out.flag(4, v, "required");
            if let Some(body) = v.get("schema") {
                out.message(5, &schema(body));
            }
            Message::only(1, &out)
        }
        place => {
            out.flag(1, v, "required");
            out.text(2, v, "in");
            out.text(3, v, "description");
            out.text(4, v, "name");
            let path = place == Some("path");
            out.text(if path { 5 } else { 6 }, v, "type");
            out.flag(if path { 19 } else { 20 }, v, "uniqueItems");
            Message::only(2, &Message::only(if path { 4 } else { 3 }, &out))
        }
    };
    Message::only(1, &wrapped)
}

fn operation(v: &Value) -> Message {
    let mut out = Message::default();
    out.strings(1, v, "tags");
    out.text(3, v, "description");
    out.text(5, v, "operationId");
    out.strings(6, v, "produces");
    out.strings(7, v, "consumes");
    for p in v
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(8, &parameter(p));
    }
    let mut responses = Message::default();
    for (code, response) in v
        .get("responses")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let mut one = Message::default();
        one.text(1, response, "description");
        if let Some(body) = response.get("schema") {
            one.message(2, &Message::only(1, &schema(body)));
        }
        responses.message(1, &named(code, Message::only(1, &one)));
    }
    out.message(9, &responses);
    out.strings(10, v, "schemes");
    out.extensions(13, v);
    out
}

/// `PathItem`.
pub(crate) fn path_item(v: &Value) -> Message {
    let mut out = Message::default();
    for (field, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(o) = v.get(method) {
            out.message(field, &operation(o));
        }
    }
    for p in v
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(9, &parameter(p));
    }
    out
}

/// `Document`; `paths` and `definitions` are the contents of those messages.
pub(crate) fn document(info: &Value, paths: &Message, definitions: &Message, token: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.string(1, "2.0");
    let mut about = Message::default();
    about.text(1, info, "title");
    about.text(2, info, "version");
    out.message(2, &about);
    out.message(8, paths);
    out.message(9, definitions);
    out.message(12, &Message::only(1, &named("BearerToken", Message::default())));
    let mut key = Message::default();
    key.text(1, token, "type");
    key.text(2, token, "name");
    key.text(3, token, "in");
    key.text(4, token, "description");
    out.message(
        13,
        &Message::only(1, &named("BearerToken", Message::only(2, &key))),
    );
    out.0
}
