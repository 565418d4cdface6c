//! Names of definitions: each is used once in its group.

use super::{is_true, set_condition, text, texts};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Names that other definitions of a group have been given.
#[derive(Debug, Default)]
pub(super) struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    /// Those of `others`, all of one group.
    pub(super) fn of<'a>(others: impl Iterator<Item = &'a Value>) -> Self {
        let mut taken = Self::default();
        for crd in others {
            let names = &crd["status"]["acceptedNames"];
            taken.resources.extend([
                text(names, "plural").to_owned(),
                text(names, "singular").to_owned(),
            ]);
            taken.resources.extend(texts(names, "shortNames"));
            taken
                .kinds
                .extend([text(names, "kind").to_owned(), text(names, "listKind").to_owned()]);
        }
        taken.resources.remove("");
        taken.kinds.remove("");
        taken
    }
}

/// Accepts the names of `crd` that are free and sets its conditions. Whether anything changed.
pub(super) fn accept(crd: &mut Value, taken: &Taken, now: &str) -> bool {
    let asked = crd["spec"]["names"].clone();
    let held = crd["status"]["acceptedNames"].clone();
    let mut given = if held.is_object() {
        held.clone()
    } else {
        json!({"plural": "", "kind": ""})
    };
    let mut conflict: Option<(&str, String)> = None;
    for (field, reason, used) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        let name = text(&asked, field);
        if name != text(&held, field) && used.contains(name) {
            conflict = Some((reason, format!("{name:?} is already in use")));
        } else if !name.is_empty() {
            given[field] = name.into();
        }
    }
    let own = texts(&held, "shortNames");
    let short = texts(&asked, "shortNames");
    let used: Vec<String> = short
        .iter()
        .filter(|n| !own.contains(n) && taken.resources.contains(*n))
        .map(|n| format!("{n:?} is already in use"))
        .collect();
    if !used.is_empty() {
        let message = if used.len() == 1 {
            used[0].clone()
        } else {
            format!("[{}]", used.join(", "))
        };
        conflict = Some(("ShortNamesConflict", message));
    } else if short.is_empty() {
        if let Some(map) = given.as_object_mut() {
            map.remove("shortNames");
        }
    } else {
        given["shortNames"] = short.into();
    }
    let categories = texts(&asked, "categories");
    if !categories.is_empty() {
        given["categories"] = categories.into();
    } else if let Some(map) = given.as_object_mut() {
        map.remove("categories");
    }
    let mut changed = given != held;
    if !crd["status"].is_object() {
        crd["status"] = json!({});
    }
    crd["status"]["acceptedNames"] = given;
    changed |= match &conflict {
        None => set_condition(
            crd,
            "NamesAccepted",
            "True",
            "NoConflicts",
            "no conflicts found",
            now,
        ),
        Some((reason, message)) => set_condition(crd, "NamesAccepted", "False", reason, message, now),
    };
    if !is_true(crd, "Established") {
        let accepted = conflict.is_none();
        changed |= if accepted {
            set_condition(
                crd,
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
                now,
            )
        } else {
            set_condition(
                crd,
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted",
                now,
            )
        };
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, kind: &str) -> Value {
        json!({"spec": {"group": "g", "names": {"plural": plural, "singular": "s", "kind": kind, "listKind": format!("{kind}List")}}})
    }

    #[test]
    fn the_first_wins() {
        let mut first = crd("foos", "Foo");
        assert!(accept(&mut first, &Taken::default(), "t1"));
        assert!(is_true(&first, "Established") && is_true(&first, "NamesAccepted"));
        assert!(
            !accept(&mut first, &Taken::default(), "t2"),
            "nothing left to change"
        );
        let taken = Taken::of([&first].into_iter());
        let mut second = crd("bars", "Foo");
        accept(&mut second, &taken, "t2");
        assert!(!is_true(&second, "Established"));
        let condition = super::super::condition(&second, "NamesAccepted").unwrap();
        // The last of several conflicts is the one that is told.
        assert_eq!(text(condition, "reason"), "ListKindConflict");
        assert_eq!(text(condition, "message"), "\"FooList\" is already in use");
    }
}
