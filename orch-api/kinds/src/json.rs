//! Reading and writing JSON members without ever failing: what has the wrong type counts as absent.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// Lenient reading. A missing member, a member of something that is not an object, and `null` are all the same.
pub(crate) trait Json {
    /// The member `key`, or null.
    fn at(&self, key: &str) -> &Value;
    /// The member at the end of `keys`, or null.
    fn dig(&self, keys: &[&str]) -> &Value;
    /// The string `key`, or empty.
    fn text(&self, key: &str) -> &str;
    /// This string, or empty.
    fn string(&self) -> &str;
    /// The whole number `key`.
    fn int(&self, key: &str) -> Option<i64>;
    /// The items of the list `key`.
    fn list(&self, key: &str) -> &[Value];
    /// The items of this list.
    fn items(&self) -> &[Value];
    /// Whether the boolean `key` is true.
    fn flag(&self, key: &str) -> bool;
    /// Whether `key` is there and not null.
    fn has(&self, key: &str) -> bool;
    /// The members of the object `key`.
    fn entries(&self, key: &str) -> Entries<'_>;
    /// This, if it is not null.
    fn some(&self) -> Option<&Value>;
}

/// Members of an object, in order of their names; none if it is no object.
pub(crate) type Entries<'a> = std::iter::Flatten<std::option::IntoIter<&'a Map<String, Value>>>;

impl Json for Value {
    fn at(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }
    fn dig(&self, keys: &[&str]) -> &Value {
        keys.iter().fold(self, |v, k| v.at(k))
    }
    fn text(&self, key: &str) -> &str {
        self.at(key).string()
    }
    fn string(&self) -> &str {
        self.as_str().unwrap_or("")
    }
    fn int(&self, key: &str) -> Option<i64> {
        number(self.at(key))
    }
    fn list(&self, key: &str) -> &[Value] {
        self.at(key).items()
    }
    fn items(&self) -> &[Value] {
        self.as_array().map_or(&[], Vec::as_slice)
    }
    fn flag(&self, key: &str) -> bool {
        self.at(key).as_bool().unwrap_or(false)
    }
    fn has(&self, key: &str) -> bool {
        !self.at(key).is_null()
    }
    fn entries(&self, key: &str) -> Entries<'_> {
        self.at(key).as_object().into_iter().flatten()
    }
    fn some(&self) -> Option<&Value> {
        if self.is_null() { None } else { Some(self) }
    }
}

/// A whole number, also when written as `3.0`.
pub(crate) fn number(v: &Value) -> Option<i64> {
    v.as_i64().or_else(|| {
        v.as_f64()
            .filter(|f| f.fract() == 0.0 && f.abs() < 9.0e15)
            .map(|f| f as i64)
    })
}

/// Lenient writing. Nothing happens to what is not an object.
pub(crate) trait JsonMut {
    /// The member `key`, if there and not null.
    fn at_mut(&mut self, key: &str) -> Option<&mut Value>;
    /// The items of the list `key`.
    fn list_mut(&mut self, key: &str) -> &mut [Value];
    /// The object `key`, made if absent or null. `None` if this is no object.
    fn ensure(&mut self, key: &str) -> Option<&mut Value>;
    /// Sets `key`.
    fn set(&mut self, key: &str, value: impl Into<Value>);
    /// Sets `key` if absent or null.
    fn default(&mut self, key: &str, value: impl Into<Value>);
    /// Sets `key` if absent, null or empty.
    fn default_text(&mut self, key: &str, value: &str);
    /// Sets `key` if absent, null or zero.
    fn default_number(&mut self, key: &str, value: i64);
    /// Removes `key` and returns what it was.
    fn take_key(&mut self, key: &str) -> Option<Value>;
}

impl JsonMut for Value {
    fn at_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.get_mut(key).filter(|v| !v.is_null())
    }
    fn list_mut(&mut self, key: &str) -> &mut [Value] {
        self.get_mut(key)
            .and_then(Value::as_array_mut)
            .map_or(&mut [], Vec::as_mut_slice)
    }
    fn ensure(&mut self, key: &str) -> Option<&mut Value> {
        let member = self.as_object_mut()?.entry(key).or_insert(Value::Null);
        if member.is_null() {
            *member = Value::Object(Map::new());
        }
        Some(member)
    }
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(map) = self.as_object_mut() {
            map.insert(key.into(), value.into());
        }
    }
    fn default(&mut self, key: &str, value: impl Into<Value>) {
        if !self.has(key) {
            self.set(key, value);
        }
    }
    fn default_text(&mut self, key: &str, value: &str) {
        if !self.has(key) || self.at(key).as_str() == Some("") {
            self.set(key, value);
        }
    }
    fn default_number(&mut self, key: &str, value: i64) {
        if !self.has(key) || self.int(key) == Some(0) {
            self.set(key, value);
        }
    }
    fn take_key(&mut self, key: &str) -> Option<Value> {
        self.as_object_mut()?.remove(key)
    }
}

/// An empty object.
pub(crate) fn empty() -> Value {
    Value::Object(Map::new())
}
