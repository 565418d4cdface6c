//! The table of messages, parsed once from the facts compiled in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

const FACTS: &str = include_str!("../../data/protobuf-v1.36.tsv");

/// A union of JSON schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SchemaOr {
    Array,
    Bool,
    Strings,
}

/// The type of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Boolean,
    Integer,
    Float,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    Duration,
    RawJson,
    FieldSet,
    /// A message that only wraps a list of strings.
    Strings,
    SchemaOr(SchemaOr),
    List(Box<Type>),
    Map(Box<Type>),
    /// Index of a message.
    Message(usize),
}

#[derive(Debug)]
pub(super) struct Field {
    number: u32,
    /// Name in JSON; empty if inlined.
    pub(super) name: String,
    /// Whether a zero value means something.
    pub(super) keep: bool,
    /// Whether its fields stand in the parent.
    pub(super) inline: bool,
    pub(super) ty: Type,
}

#[derive(Debug, Default)]
pub(super) struct Message(Vec<Field>);

impl Message {
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.0
            .binary_search_by_key(&number, |f| f.number)
            .ok()
            .map(|i| &self.0[i])
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    messages: Vec<Message>,
    names: BTreeMap<&'static str, usize>,
    kinds: HashMap<(&'static str, &'static str), usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(FACTS));

impl Table {
    pub(super) fn get() -> &'static Self {
        &TABLE
    }

    fn id(&mut self, name: &'static str) -> usize {
        let next = self.messages.len();
        let id = *self.names.entry(name).or_insert(next);
        if id == next {
            self.messages.push(Message::default());
        }
        id
    }

    fn parse(facts: &'static str) -> Self {
        let mut table = Self::default();
        let mut current = 0;
        for line in facts.lines().filter(|l| !l.starts_with('#')) {
            match line.split('\t').collect::<Vec<_>>()[..] {
                ["k", api_version, kind, message] => {
                    let id = table.id(message);
                    table.kinds.insert((api_version, kind), id);
                }
                ["m", name] => current = table.id(name),
                [number, name, flag, ty] => {
                    let ty = table.ty(ty);
                    let field = Field {
                        number: number.parse().unwrap_or_default(),
                        name: name.to_owned(),
                        keep: flag == "!",
                        inline: flag == "=",
                        ty,
                    };
                    let fields = &mut table.messages[current].0;
                    let at = fields.partition_point(|f| f.number < field.number);
                    fields.insert(at, field);
                }
                _ => {}
            }
        }
        table
    }

    fn ty(&mut self, code: &'static str) -> Type {
        if let Some(item) = code.strip_prefix('[') {
            return Type::List(Box::new(self.ty(item)));
        }
        if let Some(item) = code.strip_prefix('{') {
            return Type::Map(Box::new(self.ty(item)));
        }
        match code {
            "s" => Type::Text,
            "b" => Type::Boolean,
            "i" => Type::Integer,
            "f" => Type::Float,
            "y" => Type::Bytes,
            "q" => Type::Quantity,
            "o" => Type::IntOrString,
            "t" => Type::Time,
            "u" => Type::MicroTime,
            "d" => Type::Duration,
            "r" => Type::RawJson,
            "F" => Type::FieldSet,
            "v" => Type::Strings,
            "A" => Type::SchemaOr(SchemaOr::Array),
            "B" => Type::SchemaOr(SchemaOr::Bool),
            "C" => Type::SchemaOr(SchemaOr::Strings),
            message => Type::Message(self.id(message)),
        }
    }

    pub(super) fn message(&self, id: usize) -> &Message {
        &self.messages[id]
    }

    pub(super) fn named(&self, name: &str) -> Option<&Message> {
        self.names.get(name).map(|id| &self.messages[*id])
    }

    /// The message of a kind. Options are the same in every group.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let id = self.kinds.get(&(api_version, kind)).or_else(|| {
            let options = matches!(
                kind,
                "DeleteOptions" | "CreateOptions" | "UpdateOptions" | "PatchOptions"
            );
            if options {
                self.kinds.get(&("meta.k8s.io/v1", kind))
            } else {
                None
            }
        });
        id.map(|id| &self.messages[*id])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_that_is_referred_to_is_described() {
        let table = Table::get();
        assert!(table.kinds.len() > 80);
        let described: Vec<&str> = FACTS.lines().filter_map(|l| l.strip_prefix("m\t")).collect();
        for name in table.names.keys() {
            assert!(described.contains(name), "{name}");
        }
    }
}
