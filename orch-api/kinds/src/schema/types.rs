//! The type table: nodes in one arena, and the borrowed view that walkers use.

use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

pub(crate) type NodeId = u32;
pub(crate) type Text = Cow<'static, str>;

/// A scalar's JSON form and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    String,
    /// A whole number that fits 32 bits.
    Int32,
    /// A whole number that fits 64 bits.
    Int64,
    /// A number.
    Double,
    /// A boolean.
    Bool,
    /// Bytes in base64.
    Bytes,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// A resource quantity.
    Quantity,
    /// A 32-bit number or a string.
    IntOrString,
}

/// How the items of a list are identified when lists are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    /// The list is replaced as a whole.
    Atomic,
    /// Items are scalars and each occurs once.
    Set,
    /// Items are objects identified by these fields.
    Map(Box<[Text]>),
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Scalar(Scalar),
    /// Any value, owned and merged as a whole.
    Any,
    /// Any value; objects in it merge key by key.
    Deduced,
    /// An embedded object (`RawExtension`): opaque, but an object.
    Raw,
    List {
        elem: NodeId,
        kind: ListKind,
    },
    Map {
        value: NodeId,
        atomic: bool,
    },
    Struct(Struct),
    /// A type of the built-in set, in a custom set.
    Builtin(NodeId),
}

#[derive(Debug, Clone)]
pub(crate) struct Struct {
    pub(crate) name: Text,
    /// Range in `TypeSet::fields`, sorted by name.
    pub(crate) fields: (u32, u32),
    pub(crate) atomic: bool,
    /// What fields not named have: `None` if they are unknown.
    pub(crate) others: Option<NodeId>,
}

/// How strategic merge patch treats a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists merge item by item.
    pub merge: bool,
    /// The value is replaced.
    pub replace: bool,
    /// Keys not named by `$retainKeys` are dropped.
    pub retain_keys: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Extra {
    pub(crate) strategy: PatchStrategy,
    pub(crate) merge_key: Option<Text>,
    pub(crate) default: Option<Value>,
    pub(crate) go_type: Option<Text>,
    pub(crate) values: Option<Text>,
}

pub(crate) mod flag {
    pub(crate) const REQUIRED: u8 = 1;
    pub(crate) const OMIT_EMPTY: u8 = 2;
    pub(crate) const OMIT_ZERO: u8 = 4;
    pub(crate) const POINTER: u8 = 8;
    pub(crate) const ZERO_DEFAULT: u8 = 16;
    pub(crate) const LIST_TYPE: u8 = 32;
}

/// A field of a struct type.
#[derive(Debug, Clone)]
pub struct Field {
    pub(crate) name: Text,
    pub(crate) ty: NodeId,
    pub(crate) flags: u8,
    pub(crate) extra: Option<Box<Extra>>,
}

impl Field {
    /// Its JSON name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Whether the schema requires it.
    #[must_use]
    pub fn required(&self) -> bool {
        self.is(flag::REQUIRED)
    }
    /// How strategic merge patch treats it.
    #[must_use]
    pub fn strategy(&self) -> PatchStrategy {
        self.extra.as_ref().map(|e| e.strategy).unwrap_or_default()
    }
    /// The field that identifies items of this list in a strategic merge patch.
    #[must_use]
    pub fn merge_key(&self) -> Option<&str> {
        self.extra.as_ref()?.merge_key.as_deref()
    }
    /// The schema's default, if it is not the zero value.
    #[must_use]
    pub fn default(&self) -> Option<&Value> {
        self.extra.as_ref()?.default.as_ref()
    }
    /// Whether the schema's default is the zero value of the type.
    #[must_use]
    pub fn zero_default(&self) -> bool {
        self.is(flag::ZERO_DEFAULT)
    }
    /// Whether the schema says how the items of this list are identified; a list is atomic if it does not.
    #[must_use]
    pub fn has_list_type(&self) -> bool {
        self.is(flag::LIST_TYPE)
    }
    /// The values of an enumeration.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.extra
            .as_ref()
            .and_then(|e| e.values.as_deref())
            .into_iter()
            .flat_map(|v| v.split('|'))
    }
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
    pub(crate) fn go_type(&self) -> Option<&str> {
        self.extra.as_ref()?.go_type.as_deref()
    }
}

/// An arena of types.
#[derive(Debug, Default)]
pub(crate) struct TypeSet {
    pub(crate) nodes: Vec<Node>,
    pub(crate) fields: Vec<Field>,
    /// Sorted by name.
    pub(crate) named: Vec<(Text, NodeId)>,
    /// Sorted by `group/version/Kind`.
    pub(crate) kinds: Vec<(Text, NodeId)>,
    /// The type of a whole object (custom types).
    pub(crate) root: NodeId,
    /// Types of a custom resource: values are kept as they are rather than brought into Go's form.
    pub(crate) custom: bool,
}

impl TypeSet {
    pub(crate) fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId::try_from(self.nodes.len() - 1).unwrap_or(0)
    }
    pub(crate) fn by_name(&self, name: &str) -> Option<NodeId> {
        let i = self.named.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok()?;
        Some(self.named[i].1)
    }
    pub(crate) fn by_gvk(&self, group: &str, version: &str, kind: &str) -> Option<NodeId> {
        let wanted = group
            .bytes()
            .chain([b'/'])
            .chain(version.bytes())
            .chain([b'/'])
            .chain(kind.bytes());
        let i = self
            .kinds
            .binary_search_by(|(n, _)| n.bytes().cmp(wanted.clone()))
            .ok()?;
        Some(self.kinds[i].1)
    }
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.named.iter().map(|(n, id)| (n.as_ref(), *id))
    }
}

#[derive(Debug, Clone)]
enum SetRef {
    Builtin,
    Custom(Arc<TypeSet>),
}

/// A type, built in or custom. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TypeRef {
    set: SetRef,
    node: NodeId,
}

impl TypeRef {
    pub(crate) fn builtin(node: NodeId) -> Self {
        Self {
            set: SetRef::Builtin,
            node,
        }
    }
    pub(crate) fn custom(set: Arc<TypeSet>) -> Self {
        let node = set.root;
        Self {
            set: SetRef::Custom(set),
            node,
        }
    }
    /// The view that walkers use.
    #[must_use]
    pub fn ty(&self) -> Ty<'_> {
        let set = match &self.set {
            SetRef::Builtin => super::builtin_static(),
            SetRef::Custom(set) => set,
        };
        Ty::new(set, self.node)
    }
    /// Whether it comes from a CustomResourceDefinition.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        matches!(self.set, SetRef::Custom(_))
    }
}

/// What a type is, for walkers.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// A leaf.
    Scalar(Scalar),
    /// Any value, treated as a leaf.
    Any,
    /// Any value; objects in it merge key by key, lists are leaves.
    Deduced,
    /// An embedded object, treated as a leaf.
    Raw,
    /// A list.
    List {
        /// The items' type.
        elem: Ty<'a>,
        /// How items are identified.
        kind: &'a ListKind,
    },
    /// An object with free keys.
    Map {
        /// The values' type.
        value: Ty<'a>,
        /// Replaced as a whole.
        atomic: bool,
    },
    /// An object with named fields.
    Struct(Fields<'a>),
}

/// A struct type's fields.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    set: &'a TypeSet,
    of: &'a Struct,
}

/// A borrowed view of one type.
#[derive(Debug, Clone, Copy)]
pub struct Ty<'a> {
    pub(crate) set: &'a TypeSet,
    pub(crate) node: NodeId,
}

impl<'a> Ty<'a> {
    pub(crate) fn new(set: &'a TypeSet, node: NodeId) -> Self {
        match set.nodes[node as usize] {
            Node::Builtin(node) => Self {
                set: super::builtin_static(),
                node,
            },
            _ => Self { set, node },
        }
    }
    /// What it is.
    #[must_use]
    pub fn kind(self) -> Kind<'a> {
        let set = self.set;
        match &set.nodes[self.node as usize] {
            Node::Scalar(s) => Kind::Scalar(*s),
            Node::Any => Kind::Any,
            Node::Deduced => Kind::Deduced,
            Node::Raw => Kind::Raw,
            Node::List { elem, kind } => Kind::List {
                elem: Ty::new(set, *elem),
                kind,
            },
            Node::Map { value, atomic } => Kind::Map {
                value: Ty::new(set, *value),
                atomic: *atomic,
            },
            Node::Struct(of) => Kind::Struct(Fields { set, of }),
            Node::Builtin(_) => Kind::Any, // resolved by `new`
        }
    }
    pub(crate) fn is_custom(self) -> bool {
        self.set.custom
    }
    /// The type of `key` in this object type; `None` if it has no such field.
    #[must_use]
    pub fn child(self, key: &str) -> Option<Ty<'a>> {
        match self.kind() {
            Kind::Struct(fields) => fields.child(key),
            Kind::Map { value, .. } => Some(value),
            Kind::Deduced | Kind::Any | Kind::Raw => Some(self),
            _ => None,
        }
    }
    /// The name of a built-in struct type, without `io.k8s.`; empty for others.
    #[must_use]
    pub fn name(self) -> &'a str {
        match &self.set.nodes[self.node as usize] {
            Node::Struct(s) => &s.name,
            _ => "",
        }
    }
}

impl<'a> Fields<'a> {
    /// All named fields, in name order.
    #[must_use]
    pub fn all(self) -> &'a [Field] {
        &self.set.fields[self.of.fields.0 as usize..self.of.fields.1 as usize]
    }
    /// A field by its JSON name.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a Field> {
        let all = self.all();
        let i = all.binary_search_by(|f| f.name.as_ref().cmp(name)).ok()?;
        Some(&all[i])
    }
    /// The position of a field in [`Fields::all`].
    pub(crate) fn position(self, name: &str) -> Option<usize> {
        self.all().binary_search_by(|f| f.name.as_ref().cmp(name)).ok()
    }
    /// The type of one of its fields.
    #[must_use]
    pub fn type_of(self, field: &Field) -> Ty<'a> {
        Ty::new(self.set, field.ty)
    }
    /// The type of `name`, which may be a field not named if the type allows those.
    #[must_use]
    pub fn child(self, name: &str) -> Option<Ty<'a>> {
        match self.get(name) {
            Some(f) => Some(self.type_of(f)),
            None => self.others(),
        }
    }
    /// The type of fields that are not named; `None` if there may be none.
    #[must_use]
    pub fn others(self) -> Option<Ty<'a>> {
        Some(Ty::new(self.set, self.of.others?))
    }
    /// Replaced as a whole.
    #[must_use]
    pub fn atomic(self) -> bool {
        self.of.atomic
    }
    /// The type's name, without `io.k8s.`.
    #[must_use]
    pub fn name(self) -> &'a str {
        &self.of.name
    }
}
