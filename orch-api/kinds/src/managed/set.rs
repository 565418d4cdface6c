//! Sets of field paths, in their wire form.

use super::element;
use serde_json::{Map, Value};

pub(super) const SELF: &str = ".";

/// A set of field paths: the content of `fieldsV1`.
///
/// A path element maps to an object: empty if the element is in the set and nothing below it is; otherwise its
/// children, with `.` among them if the element itself is in the set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSet(pub(super) Map<String, Value>);

impl FieldSet {
    /// A set of plain field paths.
    #[must_use]
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert_fields(path);
        }
        set
    }

    /// From `fieldsV1`; `None` if it is not an object of objects.
    #[must_use]
    pub fn from_fields_v1(value: Value) -> Option<Self> {
        fn well_formed(map: &Map<String, Value>) -> bool {
            map.iter().all(|(key, child)| {
                (key == SELF || element::is_valid(key)) && child.as_object().is_some_and(well_formed)
            })
        }
        match value {
            Value::Object(map) if well_formed(&map) => Some(Self(map)),
            _ => None,
        }
    }

    /// Its wire form.
    #[must_use]
    pub fn into_fields_v1(self) -> Value {
        Value::Object(self.0)
    }

    /// Whether it holds no path.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds this path of plain fields.
    #[must_use]
    pub fn has_fields(&self, path: &[&str]) -> bool {
        let mut at = &self.0;
        for (i, name) in path.iter().enumerate() {
            let Some(Value::Object(child)) = at.get(&format!("f:{name}")) else {
                return false;
            };
            if i + 1 == path.len() {
                return is_member(child);
            }
            at = child;
        }
        false
    }

    /// Adds a path of plain fields.
    pub fn insert_fields(&mut self, path: &[&str]) {
        let mut one = Map::new();
        for name in path.iter().rev() {
            one = Map::from_iter([(format!("f:{name}"), Value::Object(one))]);
        }
        union(&mut self.0, one);
    }

    /// The paths, spelled as upstream prints them (`.spec.containers[name="a"].image`): elements of one level first.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.0, &mut String::new(), &mut found);
        found
    }
}

fn collect(set: &Map<String, Value>, path: &mut String, found: &mut Vec<String>) {
    let mark = path.len();
    for (key, child) in children(set) {
        if is_member(child) {
            element::print(key, path);
            found.push(path.clone());
            path.truncate(mark);
        }
    }
    for (key, child) in children(set) {
        element::print(key, path);
        collect(child, path, found);
        path.truncate(mark);
    }
}

/// Whether the element that maps to `content` is itself in the set.
pub(super) fn is_member(content: &Map<String, Value>) -> bool {
    content.is_empty() || content.contains_key(SELF)
}

/// The elements below, without the mark for the element itself.
pub(super) fn children(set: &Map<String, Value>) -> impl Iterator<Item = (&String, &Map<String, Value>)> {
    set.iter()
        .filter(|(k, _)| *k != SELF)
        .filter_map(|(k, v)| Some((k, v.as_object()?)))
}

/// What is below `key`.
pub(super) fn below<'a>(set: &'a Map<String, Value>, key: &str) -> Option<&'a Map<String, Value>> {
    set.get(key)?.as_object()
}

fn empty() -> Value {
    Value::Object(Map::new())
}

/// Makes content from its parts; `None` if nothing is left.
fn content(member: bool, mut kids: Map<String, Value>) -> Option<Value> {
    if kids.is_empty() {
        return member.then(empty);
    }
    if member {
        kids.insert(SELF.into(), empty());
    }
    Some(Value::Object(kids))
}

/// Adds all paths of `more`.
pub(super) fn union(set: &mut Map<String, Value>, more: Map<String, Value>) {
    if set.is_empty() {
        *set = more;
        return;
    }
    for (key, value) in more {
        let Value::Object(theirs) = value else { continue };
        if key == SELF {
            set.insert(key, empty());
            continue;
        }
        match set.get_mut(&key) {
            Some(Value::Object(ours)) => {
                let member = is_member(ours) || is_member(&theirs);
                union(ours, theirs);
                if member && !ours.is_empty() && !(ours.len() == 1 && ours.contains_key(SELF)) {
                    ours.insert(SELF.into(), empty());
                } else if ours.len() == 1 && ours.contains_key(SELF) {
                    ours.clear();
                }
            }
            _ => {
                set.insert(key, Value::Object(theirs));
            }
        }
    }
}

/// Takes the paths of `less` away: a path goes if that very path is in `less`.
pub(super) fn subtract(set: &mut Map<String, Value>, less: &Map<String, Value>) {
    for (key, theirs) in children(less) {
        let Some(Value::Object(ours)) = set.get_mut(key) else {
            continue;
        };
        let member = is_member(ours) && !is_member(theirs);
        ours.remove(SELF);
        subtract(ours, theirs);
        let left = content(member, std::mem::take(ours));
        match left {
            Some(value) => {
                set.insert(key.clone(), value);
            }
            None => {
                set.remove(key);
            }
        }
    }
}

/// Takes the paths of `less` away with everything below them.
pub(super) fn subtract_recursively(set: &mut Map<String, Value>, less: &Map<String, Value>) {
    for (key, theirs) in children(less) {
        if is_member(theirs) {
            set.remove(key);
            continue;
        }
        let Some(Value::Object(ours)) = set.get_mut(key) else {
            continue;
        };
        let member = is_member(ours);
        ours.remove(SELF);
        subtract_recursively(ours, theirs);
        match content(member, std::mem::take(ours)) {
            Some(value) => {
                set.insert(key.clone(), value);
            }
            None => {
                set.remove(key);
            }
        }
    }
}

/// The paths that are in both.
pub(super) fn intersection(a: &Map<String, Value>, b: &Map<String, Value>) -> Map<String, Value> {
    let (small, large) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut out = Map::new();
    for (key, one) in children(small) {
        let Some(other) = below(large, key) else { continue };
        let kids = intersection(one, other);
        if let Some(value) = content(is_member(one) && is_member(other), kids) {
            out.insert(key.clone(), value);
        }
    }
    out
}

/// Whether every path of `a` is in `b`.
pub(super) fn is_subset(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    children(a).all(|(key, one)| {
        below(b, key).is_some_and(|other| (!is_member(one) || is_member(other)) && is_subset(one, other))
    })
}

/// Sets the content of `key` from whether it is in the set and what is below it.
pub(super) fn put(
    set: &mut Map<String, Value>,
    key: impl Into<String>,
    member: bool,
    kids: Map<String, Value>,
) {
    if let Some(value) = content(member, kids) {
        set.insert(key.into(), value);
    }
}
