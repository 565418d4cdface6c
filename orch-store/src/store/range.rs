//! Sets of neighbouring keys.

use bytes::Bytes;

/// A set of neighbouring keys in byte order: from `start` up to, not including, `end`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// The first key that can be in it.
    pub start: Bytes,
    /// The first key after it; `None` for no upper end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Exactly one key.
    #[must_use]
    pub fn key(key: impl Into<Bytes>) -> Self {
        let start = key.into();
        let end = Some(successor(&start));
        Self { start, end }
    }

    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        let end = end.last_mut().map(|last| *last += 1).map(|()| Bytes::from(end));
        Self { start, end }
    }

    /// From `start` up to, not including, `end`.
    #[must_use]
    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self {
            start: Bytes::new(),
            end: None,
        }
    }

    /// The part of this range behind `key`: where a limited read goes on.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        let next = successor(key);
        Self {
            start: next.max(self.start.clone()),
            end: self.end.clone(),
        }
    }

    /// Whether `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        *key >= *self.start && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether no key can be in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// The key, if the range holds exactly one.
    #[must_use]
    pub fn single(&self) -> Option<&Bytes> {
        let end = self.end.as_ref()?;
        let one = end.len() == self.start.len() + 1 && end.last() == Some(&0) && end.starts_with(&self.start);
        one.then_some(&self.start)
    }

    /// Whether some key can be in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.end.as_ref().is_none_or(|end| other.start < *end)
            && other.end.as_ref().is_none_or(|end| self.start < *end)
    }
}

fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |range: KeyRange, inside: &[&str], outside: &[&str]| {
            for key in inside {
                assert!(range.contains(key.as_bytes()), "{range:?} has {key}");
            }
            for key in outside {
                assert!(!range.contains(key.as_bytes()), "{range:?} has not {key}");
            }
        };
        check(KeyRange::key("a"), &["a"], &["", "a\0", "b", "aa"]);
        check(
            KeyRange::prefix("a/"),
            &["a/", "a/b", "a/\u{10ffff}"],
            &["a", "a0", "b"],
        );
        check(KeyRange::prefix(""), &["", "a"], &[]);
        check(
            KeyRange::prefix("a/").after(b"a/b"),
            &["a/b\0", "a/c"],
            &["a/b", "a/", "a0"],
        );
        check(KeyRange::between("b", "a"), &[], &["a", "b"]);
        assert!(KeyRange::prefix(vec![0xff, 0xff]).contains(&[0xff, 0xff, 1]));
        assert_eq!(KeyRange::prefix(vec![0xff, 0xff]).end, None);
        assert_eq!(
            KeyRange::prefix(vec![1, 0xff]).end,
            Some(Bytes::from_static(&[2]))
        );
        assert_eq!(KeyRange::key("x").single(), Some(&Bytes::from("x")));
        assert_eq!(KeyRange::prefix("x").single(), None);
        assert!(KeyRange::key("a").overlaps(&KeyRange::prefix("a")));
        assert!(!KeyRange::key("a").overlaps(&KeyRange::key("b")));
        assert!(!KeyRange::key("a").overlaps(&KeyRange::between("a", "a")));
    }
}
