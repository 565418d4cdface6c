//! Sets of completion indexes in their text form: `1,3-5,7`. Pure.

use std::{collections::BTreeSet, fmt};

/// A set of completion indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads the text form; what can't be read or is not below `completions` is left out.
    pub(super) fn parse(text: &str, completions: i32) -> Self {
        let mut set = BTreeSet::new();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                set.extend(first.max(0)..=last.min(completions - 1));
            }
        }
        Self(set)
    }
    pub(super) fn insert(&mut self, index: i32) {
        self.0.insert(index);
    }
    pub(super) fn contains(&self, index: i32) -> bool {
        self.0.contains(&index)
    }
    pub(super) fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if(|next| *next == last + 1).is_some() {
                last += 1;
            }
            // Two neighbours are written as a list, as upstream writes them.
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text() {
        for (text, printed) in [
            ("", ""),
            ("1", "1"),
            ("1-2", "1,2"),
            ("0,1,2,5,7-9", "0-2,5,7-9"),
            ("x,3", "3"),
            ("8-100", "8,9"),
        ] {
            assert_eq!(Indexes::parse(text, 10).to_string(), printed, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(set in proptest::collection::btree_set(0i32..200, 0..60)) {
            let indexes = Indexes(set);
            prop_assert_eq!(Indexes::parse(&indexes.to_string(), 200), indexes);
        }
        #[test]
        fn no_text_panics(text in "[0-9,\\-x]{0,30}") { drop(Indexes::parse(&text, 1000)); }
    }
}
