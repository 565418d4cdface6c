//! The part of JSONPath that printer columns and selectable fields use.
//!
//! `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`, `.items[0]`, `.items[*].name`, `['a.b']`,
//! `.a\.b` and `..name`. Indices may be negative, and slices have start, end and step.

use crate::json::Json;
use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(String),
    Recursive(String),
    Wildcard,
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Index(i64),
    Filter {
        left: JsonPath,
        compare: Option<(Compare, Value)>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Parses `text`; `None` if it is not a path of the supported kind.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|t| t.strip_suffix('}'))
            .unwrap_or(text);
        let mut parser = Parser {
            rest: text.strip_prefix('$').unwrap_or(text),
        };
        let path = parser.path()?;
        parser.rest.is_empty().then_some(path)
    }

    /// All values that the path leads to, in order.
    pub(crate) fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.0 {
            found = found.into_iter().flat_map(|v| step.apply(v)).collect();
        }
        found
    }
}

impl Step {
    fn apply<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Member(name) => value.get(name.as_str()).into_iter().collect(),
            Self::Recursive(name) => {
                let mut out = Vec::new();
                descend(value, name, &mut out);
                out
            }
            Self::Wildcard => children(value).collect(),
            Self::Index(i) => {
                let items = value.items();
                let at = if *i < 0 {
                    items.len().checked_sub(i.unsigned_abs() as usize)
                } else {
                    usize::try_from(*i).ok()
                };
                at.and_then(|i| items.get(i)).into_iter().collect()
            }
            Self::Slice { start, end, step } => {
                let items = value.items();
                let len = items.len() as i64;
                let clamp = |i: i64| (if i < 0 { i + len } else { i }).clamp(0, len) as usize;
                let (from, to) = (clamp(start.unwrap_or(0)), clamp(end.unwrap_or(len)));
                let step = usize::try_from(*step).unwrap_or(1).max(1);
                if from < to {
                    items[from..to].iter().step_by(step).collect()
                } else {
                    Vec::new()
                }
            }
            Self::Filter { left, compare } => value
                .items()
                .iter()
                .filter(|v| holds(v, left, compare.as_ref()))
                .collect(),
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(members) => Box::new(members.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descend<'a>(value: &'a Value, name: &str, out: &mut Vec<&'a Value>) {
    out.extend(value.get(name));
    children(value).for_each(|child| descend(child, name, out));
}

fn holds(value: &Value, left: &JsonPath, compare: Option<&(Compare, Value)>) -> bool {
    let found = left.find(value);
    let Some((operator, right)) = compare else {
        return !found.is_empty();
    };
    let Some(left) = found.first() else { return false };
    let order = match (left, right) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let Some(order) = order else {
        return matches!(operator, Compare::NotEqual);
    };
    match operator {
        Compare::Equal => order.is_eq(),
        Compare::NotEqual => order.is_ne(),
        Compare::Less => order.is_lt(),
        Compare::LessOrEqual => order.is_le(),
        Compare::Greater => order.is_gt(),
        Compare::GreaterOrEqual => order.is_ge(),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Steps up to the end, or up to what no step starts with.
    fn path(&mut self) -> Option<JsonPath> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Recursive(self.name()?));
            } else if self.eat(".") {
                if self.eat("*") {
                    steps.push(Step::Wildcard);
                } else if self.rest.starts_with('[') || self.rest.is_empty() {
                    // `.[` is the same as `[`, and a lone dot is the whole object.
                } else {
                    steps.push(Step::Member(self.name()?));
                }
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                return Some(JsonPath(steps));
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => name.push(chars.next()?.1),
                '.' | '[' | ']' | ')' | ' ' | '=' | '!' | '<' | '>' => {
                    end = i;
                    break;
                }
                c => name.push(c),
            }
        }
        self.rest = self.rest.get(end..)?;
        (!name.is_empty()).then_some(name)
    }

    fn bracket(&mut self) -> Option<Step> {
        let step = if self.eat("?(") {
            let filter = self.filter()?;
            if !self.eat(")") {
                return None;
            }
            filter
        } else if self.eat("*") {
            Step::Wildcard
        } else if self.rest.starts_with(['\'', '"']) {
            Step::Member(self.quoted()?)
        } else {
            let (inside, _) = self.rest.split_once(']')?;
            self.rest = &self.rest[inside.len()..];
            let parts: Vec<&str> = inside.split(':').map(str::trim).collect();
            let number = |part: &str| {
                if part.is_empty() {
                    Some(None)
                } else {
                    part.parse::<i64>().ok().map(Some)
                }
            };
            match parts.as_slice() {
                [one] => Step::Index(one.parse().ok()?),
                [start, end] => Step::Slice {
                    start: number(start)?,
                    end: number(end)?,
                    step: 1,
                },
                [start, end, step] => Step::Slice {
                    start: number(start)?,
                    end: number(end)?,
                    step: number(step)?.unwrap_or(1),
                },
                _ => return None,
            }
        };
        self.eat("]").then_some(step)
    }

    fn quoted(&mut self) -> Option<String> {
        let quote = self.rest.chars().next()?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => text.push(chars.next()?.1),
                c if c == quote => {
                    self.rest = self.rest.get(i + 1..)?;
                    return Some(text);
                }
                c => text.push(c),
            }
        }
        None
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn filter(&mut self) -> Option<Step> {
        self.spaces();
        if !self.eat("@") {
            return None;
        }
        let left = self.path()?;
        self.spaces();
        let operators = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        let Some((_, operator)) = operators.into_iter().find(|(token, _)| self.eat(token)) else {
            return Some(Step::Filter { left, compare: None });
        };
        self.spaces();
        let right = if self.rest.starts_with(['\'', '"']) {
            Value::String(self.quoted()?)
        } else {
            let end = self.rest.find([')', ' '])?;
            let literal = serde_json::from_str(&self.rest[..end]).ok()?;
            self.rest = &self.rest[end..];
            literal
        };
        self.spaces();
        Some(Step::Filter {
            left,
            compare: Some((operator, right)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds() {
        let object =
            json!({"a": {"b.c": 1, "list": [{"t": "x", "n": 1}, {"t": "y", "n": 2}]}, "s": [1, 2, 3, 4]});
        for (path, expected) in [
            (".a['b.c']", json!([1])),
            (".a.b\\.c", json!([1])),
            ("{.a.list[0].n}", json!([1])),
            (".a.list[-1].n", json!([2])),
            (".a.list[-5].n", json!([])),
            (".a.list[*].n", json!([1, 2])),
            (".a.list[?(@.t==\"y\")].n", json!([2])),
            (".a.list[?(@.t != 'y')].n", json!([1])),
            (".a.list[?(@.n>=2)].t", json!(["y"])),
            (".a.list[?(@.zzz)].t", json!([])),
            ("$..n", json!([1, 2])),
            (".s[1:3]", json!([2, 3])),
            (".s[::2]", json!([1, 3])),
            (".missing.x", json!([])),
            (".", json!([object])),
        ] {
            let found: Vec<&Value> = JsonPath::parse(path)
                .unwrap_or_else(|| panic!("{path}"))
                .find(&object);
            assert_eq!(json!(found), expected, "{path}");
        }
        for bad in [
            "a",
            ".a[",
            ".a[x]",
            ".a['b",
            ".a[?(b)]",
            "{.a",
            ".a..",
            ".s[1:2:3:4]",
        ] {
            assert_eq!(JsonPath::parse(bad), None, "{bad}");
        }
    }
}
