//! Loads the table of built-in types from the facts compiled into the crate.

use super::types::{
    Extra, Field, ListKind, Node, NodeId, PatchStrategy, Scalar, Struct, Text, TypeSet, flag,
};
use std::borrow::Cow;
use std::sync::OnceLock;

static FACTS: &str = include_str!("../../data/schema-v1.36.tsv");

/// The built-in types, loaded on first use.
pub(super) fn builtin_set() -> &'static TypeSet {
    static SET: OnceLock<TypeSet> = OnceLock::new();
    SET.get_or_init(|| load(FACTS))
}

// Scalar nodes come first, so that a type code maps to a fixed node.
const SCALARS: [(u8, Node); 13] = [
    (b's', Node::Scalar(Scalar::String)),
    (b'i', Node::Scalar(Scalar::Int32)),
    (b'l', Node::Scalar(Scalar::Int64)),
    (b'n', Node::Scalar(Scalar::Double)),
    (b'b', Node::Scalar(Scalar::Bool)),
    (b'B', Node::Scalar(Scalar::Bytes)),
    (b't', Node::Scalar(Scalar::Time)),
    (b'T', Node::Scalar(Scalar::MicroTime)),
    (b'q', Node::Scalar(Scalar::Quantity)),
    (b'x', Node::Scalar(Scalar::IntOrString)),
    (b'*', Node::Any),
    (b'R', Node::Raw),
    (b'?', Node::Deduced),
];

pub(super) fn push_scalars(set: &mut TypeSet) {
    set.nodes.extend(SCALARS.iter().map(|(_, node)| node.clone()));
}

/// The node of a type code that stands alone.
pub(super) fn scalar_node(code: u8) -> NodeId {
    SCALARS
        .iter()
        .position(|(c, _)| *c == code)
        .and_then(|i| NodeId::try_from(i).ok())
        .unwrap_or(10)
}

fn load(facts: &'static str) -> TypeSet {
    let mut set = TypeSet::default();
    set.nodes.reserve(3000);
    set.fields.reserve(3200);
    push_scalars(&mut set);
    // First all names, so that references resolve in one pass.
    for line in facts.lines().filter_map(|l| l.strip_prefix('=')) {
        let (name, facts) = line.split_once('\t').unwrap_or((line, ""));
        let leaf = facts
            .split(' ')
            .find_map(|f| f.strip_prefix('='))
            .filter(|c| !c.is_empty());
        let node = match leaf {
            Some(code) => scalar_node(code.as_bytes()[0]),
            None => set.push(Node::Struct(Struct {
                name: Cow::Borrowed(name),
                fields: (0, 0),
                atomic: facts.split(' ').any(|f| f == "a"),
                others: None,
            })),
        };
        set.named.push((Cow::Borrowed(name), node));
        for gvk in facts.split(' ').filter_map(|f| f.strip_prefix("V=")) {
            set.kinds.push((Cow::Borrowed(gvk), node));
        }
    }
    set.kinds.sort();
    let mut current: NodeId = 0;
    let mut overrides: Vec<(usize, NodeId, bool)> = Vec::new();
    for line in facts.lines().filter(|l| !l.starts_with('#')) {
        if let Some(rest) = line.strip_prefix('=') {
            close(&mut set, current);
            let name = rest.split('\t').next().unwrap_or(rest);
            current = set.by_name(name).unwrap_or(0);
            let at = position(&set);
            if let Node::Struct(s) = &mut set.nodes[current as usize] {
                s.fields = (at, at);
            }
            continue;
        }
        let mut columns = line.split('\t');
        let (Some(name), Some(code)) = (columns.next(), columns.next()) else {
            continue;
        };
        let facts = columns.next().unwrap_or_default();
        let field = parse_field(&mut set, name, code, facts);
        if code.starts_with('@') {
            let atomic = facts.split(' ').find_map(|f| match f {
                "a" => Some(true),
                "g" => Some(false),
                _ => None,
            });
            overrides.extend(atomic.map(|atomic| (set.fields.len(), field.ty, atomic)));
        }
        set.fields.push(field);
    }
    close(&mut set, current);
    // A reference may differ from its type in whether it is atomic: such a field gets a node of its own.
    for (at, target, atomic) in overrides {
        if let Node::Struct(s) = set.nodes[target as usize].clone() {
            let node = set.push(Node::Struct(Struct { atomic, ..s }));
            set.fields[at].ty = node;
        }
    }
    set
}

fn position(set: &TypeSet) -> u32 {
    u32::try_from(set.fields.len()).unwrap_or(u32::MAX)
}

fn close(set: &mut TypeSet, current: NodeId) {
    let end = position(set);
    if let Some(Node::Struct(s)) = set.nodes.get_mut(current as usize) {
        s.fields.1 = end;
    }
}

fn parse_field(set: &mut TypeSet, name: &'static str, code: &'static str, facts: &'static str) -> Field {
    let mut flags = 0;
    let mut extra = Extra::default();
    let mut has_extra = false;
    let mut list = ListKind::Atomic;
    let mut atomic = false;
    for fact in facts.split(' ') {
        match fact.split_once('=') {
            None => match fact {
                "r" => flags |= flag::REQUIRED,
                "o" => flags |= flag::OMIT_EMPTY,
                "z" => flags |= flag::OMIT_ZERO,
                "p" => flags |= flag::POINTER,
                "d" => flags |= flag::ZERO_DEFAULT,
                "a" => atomic = true,
                _ => {}
            },
            Some(("L", value)) => {
                flags |= flag::LIST_TYPE;
                if value == "s" {
                    list = ListKind::Set;
                }
                if let Some(keys) = value.strip_prefix("m:") {
                    list = ListKind::Map(keys.split(',').map(Text::Borrowed).collect());
                }
            }
            Some((key, value)) => {
                has_extra = true;
                match key {
                    "S" => extra.strategy = strategy(value),
                    "K" => extra.merge_key = Some(Cow::Borrowed(value)),
                    "D" => extra.default = serde_json::from_str(value).ok(),
                    "G" => extra.go_type = Some(Cow::Borrowed(value)),
                    "E" => extra.values = Some(Cow::Borrowed(value)),
                    _ => {}
                }
            }
        }
    }
    let ty = parse_type(set, code, list, atomic);
    let extra = has_extra.then(|| Box::new(extra));
    Field {
        name: Cow::Borrowed(name),
        ty,
        flags,
        extra,
    }
}

fn strategy(text: &str) -> PatchStrategy {
    let has = |name: &str| text.split(',').any(|s| s == name);
    PatchStrategy {
        merge: has("merge"),
        replace: has("replace"),
        retain_keys: has("retainKeys"),
    }
}

fn parse_type(set: &mut TypeSet, code: &str, list: ListKind, atomic: bool) -> NodeId {
    match code.as_bytes().first() {
        Some(b'[') => {
            let elem = parse_type(set, &code[1..], ListKind::Atomic, false);
            set.push(Node::List { elem, kind: list })
        }
        Some(b'{') => {
            let value = parse_type(set, &code[1..], ListKind::Atomic, false);
            set.push(Node::Map { value, atomic })
        }
        Some(b'@') => set.by_name(&code[1..]).unwrap_or_else(|| scalar_node(b'*')),
        Some(code) => scalar_node(*code),
        None => scalar_node(b'*'),
    }
}
