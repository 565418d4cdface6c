//! Server-side apply.

use super::entries::{self, Entry, Operation};
use super::set::{intersection, is_subset, subtract, subtract_recursively, union};
use super::{FieldSet, Write, check, compare, extract, merge, remove, update};
use crate::schema::{Ty, empty_object};
use serde_json::{Map, Value};
use std::fmt;

/// The outcome of an apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The merged object with its new `managedFields`. Not yet normalized, defaulted or validated.
    pub object: Value,
    /// Whether anything but `managedFields` differs from the live object.
    pub changed: bool,
}

/// A field that the applier wants to set differently from its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The owner, as upstream prints it: `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// The field, such as `.spec.replicas`.
    pub path: String,
}

/// Why an apply is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// 409: others own fields that the intent changes. Each is a cause of type `FieldManagerConflict` with message
    /// `conflict with MANAGER` and the path as its field.
    Conflicts(Vec<Conflict>),
    /// 400: the request itself is wrong.
    BadRequest(String),
    /// The intent does not fit the type. Upstream answers 500 without a reason.
    Untyped(String),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(text) | Self::Untyped(text) => f.write_str(text),
            Self::Conflicts(conflicts) => {
                if let [only] = conflicts.as_slice() {
                    return write!(
                        f,
                        "Apply failed with 1 conflict: conflict with {}: {}",
                        only.manager, only.path
                    );
                }
                write!(f, "Apply failed with {} conflicts: ", conflicts.len())?;
                let mut last: Option<&str> = None;
                for conflict in conflicts {
                    if last != Some(&conflict.manager) {
                        write!(
                            f,
                            "{}conflicts with {}:",
                            if last.is_some() { "\n" } else { "" },
                            conflict.manager
                        )?;
                        last = Some(&conflict.manager);
                    }
                    write!(f, "\n- {}", conflict.path)?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ApplyError {}

/// The annotation in which client-side apply keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Merges `intent` into `live` (`None` if the object does not exist yet) on behalf of `write.manager`.
///
/// Fields that this manager applied before and no longer wants are removed unless somebody else owns them. With
/// `force`, fields that others own differently are taken from them.
///
/// # Errors
/// [`ApplyError`].
pub fn apply(
    live: Option<&Value>,
    intent: &Value,
    force: bool,
    write: &Write<'_>,
) -> Result<Applied, ApplyError> {
    check_request(intent, write)?;
    let ty = write.ty.ty();
    let mut bare = match live {
        Some(live) => live.clone(),
        None => new_object(intent),
    };
    let mut managed = match entries::take(&mut bare) {
        Some(value) => entries::read(value)
            .ok_or_else(|| ApplyError::Untyped("failed to decode managed fields: malformed entry".into()))?,
        None => Vec::new(),
    };
    update::follow_schema(&mut managed, write);
    let managed = if managed.is_empty() {
        before_first_apply(live, &bare, write)
    } else {
        managed
    };
    let attempt = Attempt {
        ty,
        live: &bare,
        intent,
        write,
    };
    let (mut merged, mut managed, changed) = match attempt.run(managed.clone(), force) {
        Err(conflicts) if write.manager == "kubectl" => {
            let left = attempt.not_from_last_applied(conflicts);
            if left.is_empty() {
                attempt.run(managed, true)
            } else {
                Err(left)
            }
        }
        outcome => outcome,
    }
    .map_err(report)?;
    if !changed {
        merged = bare.clone();
    }
    if write.manager == "kubectl" {
        update_last_applied(&mut merged, intent);
    }
    strip(&mut managed, write);
    entries::put(&mut merged, managed);
    Ok(Applied {
        object: merged,
        changed: changed || live.is_none(),
    })
}

fn check_request(intent: &Value, write: &Write<'_>) -> Result<(), ApplyError> {
    let text = |pointer: &str| {
        intent
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let version = text("/apiVersion");
    if version != write.api_version {
        return Err(ApplyError::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            write.api_version
        )));
    }
    if intent
        .pointer("/metadata/managedFields")
        .is_some_and(|m| !m.is_null())
    {
        return Err(ApplyError::BadRequest(
            "metadata.managedFields must be nil".into(),
        ));
    }
    let errors = check::errors(write.ty.ty(), intent);
    if errors.is_empty() {
        return Ok(());
    }
    let errors = match errors.as_slice() {
        [only] => only.clone(),
        many => many
            .iter()
            .fold("errors:".into(), |all: String, e| all + "\n  " + e),
    };
    Err(ApplyError::Untyped(format!(
        "failed to create typed patch object ({}/{}; {version}, Kind={}): {errors}",
        text("/metadata/namespace"),
        text("/metadata/name"),
        text("/kind"),
    )))
}

fn new_object(intent: &Value) -> Value {
    let keep = |name: &str| intent.get(name).map(|v| (name.to_owned(), v.clone()));
    Value::Object([keep("apiVersion"), keep("kind")].into_iter().flatten().collect())
}

/// Everything that is there before anybody is tracked belongs to a manager of its own.
fn before_first_apply(live: Option<&Value>, bare: &Value, write: &Write<'_>) -> Vec<Entry> {
    let mut managed = Vec::new();
    if live.is_some() {
        let write = Write {
            manager: "before-first-apply",
            ..*write
        };
        let changes = update::changes(&empty_object(write.ty), bare, &write);
        update::record(&mut managed, changes, &write);
    }
    managed
}

type Conflicts = Vec<(Entry, Map<String, Value>)>;

struct Attempt<'a> {
    ty: Ty<'a>,
    /// The live object without its entries.
    live: &'a Value,
    intent: &'a Value,
    write: &'a Write<'a>,
}

impl Attempt<'_> {
    fn is_mine(&self, entry: &Entry) -> bool {
        let manager = if self.write.manager.is_empty() {
            "unknown"
        } else {
            self.write.manager
        };
        entry.is(
            manager,
            Operation::Apply,
            self.write.api_version,
            self.write.subresource,
        )
    }

    /// The merged object, the entries after it, and whether it differs from the live object.
    fn run(&self, mut managed: Vec<Entry>, force: bool) -> Result<(Value, Vec<Entry>, bool), Conflicts> {
        let write = self.write;
        let mut merged = self.live.clone();
        merge::into(self.ty, &mut merged, self.intent);
        let mut set = extract::field_set(self.ty, self.intent);
        let FieldSet(reset) = write.reset;
        subtract_recursively(&mut set, reset);
        let mut last = None;
        match managed.iter_mut().find(|e| self.is_mine(e)) {
            Some(mine) => {
                last = Some(std::mem::replace(&mut mine.fields, set));
                mine.api_version = write.api_version.into();
            }
            None => managed.push(Entry {
                manager: if write.manager.is_empty() {
                    "unknown".into()
                } else {
                    write.manager.into()
                },
                operation: Operation::Apply,
                api_version: write.api_version.into(),
                subresource: write.subresource.into(),
                time: None,
                fields: set,
            }),
        }
        if let Some(last) = last {
            merged = self.pruned(merged, &managed, &last);
        }
        let changes = update::changes(self.live, &merged, write);
        let (changed_set, removed) = {
            let compare::Changes {
                added,
                modified,
                removed,
            } = changes;
            let mut set = added;
            union(&mut set, modified);
            (set, removed)
        };
        let mut conflicts = Vec::new();
        for entry in managed.iter_mut().filter(|e| !self.is_mine(e)) {
            let conflict = intersection(&entry.fields, &changed_set);
            if !conflict.is_empty() {
                subtract(&mut entry.fields, &conflict);
                conflicts.push((
                    Entry {
                        fields: Map::new(),
                        ..entry.clone()
                    },
                    conflict,
                ));
            }
            subtract(&mut entry.fields, &removed);
        }
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        let changed = !compare::same(self.live, &merged);
        if changed {
            let now = update::time(write);
            if let Some(mine) = managed.iter_mut().find(|e| self.is_mine(e)) {
                mine.time = Some(now);
            }
        }
        managed.retain(|e| !e.fields.is_empty());
        Ok((merged, managed, changed))
    }

    /// Takes out of `merged` what this manager applied last time, does not want any more, and nobody else owns.
    fn pruned(&self, merged: Value, managed: &[Entry], last: &Map<String, Value>) -> Value {
        let mut owned = Map::new();
        for entry in managed {
            union(&mut owned, entry.fields.clone());
        }
        if is_subset(last, &owned) {
            return merged;
        }
        let ty = self.ty;
        let named = |set: &Map<String, Value>| extract::with_named_fields(Some(ty), set);
        let last = named(last);
        let merged_set = named(&extract::field_set(ty, &merged));
        // Without all that was applied last time,
        let pruned = remove::without(ty, &merged, &last);
        // plus what anybody owns now,
        let mut kept = named(&extract::field_set(ty, &pruned));
        union(&mut kept, named(&owned));
        let mut gone = merged_set.clone();
        subtract(&mut gone, &kept);
        let pruned = remove::without(ty, &merged, &gone);
        // plus what was never this manager's.
        let mut gone = merged_set;
        subtract(&mut gone, &named(&extract::field_set(ty, &pruned)));
        remove::without(ty, &merged, &intersection(&gone, &last))
    }

    /// Conflicts on fields that client-side apply did not set: kubectl may take over its own fields.
    fn not_from_last_applied(&self, mut conflicts: Conflicts) -> Conflicts {
        let annotation = self
            .live
            .pointer("/metadata/annotations")
            .and_then(|a| a.get(LAST_APPLIED));
        let applied: Option<Value> = annotation
            .and_then(Value::as_str)
            .and_then(|t| serde_json::from_str(t).ok());
        let Some(applied) =
            applied.filter(|a| a.get("apiVersion").and_then(Value::as_str) == Some(self.write.api_version))
        else {
            return conflicts;
        };
        let mut allowed = extract::field_set(self.ty, &applied);
        let changes = compare::objects(self.ty, &applied, self.live);
        for set in [&changes.modified, &changes.added, &changes.removed] {
            subtract(&mut allowed, set);
        }
        for (_, set) in &mut conflicts {
            subtract(set, &allowed);
        }
        conflicts.retain(|(_, set)| !set.is_empty());
        conflicts
    }
}

fn report(mut conflicts: Conflicts) -> ApplyError {
    conflicts.sort_by(|(a, _), (b, _)| {
        (&a.manager, a.operation, &a.api_version, &a.subresource).cmp(&(
            &b.manager,
            b.operation,
            &b.api_version,
            &b.subresource,
        ))
    });
    let print = |entry: &Entry| {
        let mut out = format!("{:?}", entry.manager);
        if !entry.subresource.is_empty() {
            out = format!("{out} with subresource {:?}", entry.subresource);
        }
        if entry.operation == Operation::Update {
            out = format!("{out} using {}", entry.api_version);
        }
        out
    };
    ApplyError::Conflicts(
        conflicts
            .into_iter()
            .flat_map(|(entry, set)| {
                let manager = print(&entry);
                FieldSet(set).paths().into_iter().map(move |path| Conflict {
                    manager: manager.clone(),
                    path,
                })
            })
            .collect(),
    )
}

/// Type and identity are never owned.
fn strip(managed: &mut Vec<Entry>, write: &Write<'_>) {
    let unowned = FieldSet::of(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ]);
    let manager = if write.manager.is_empty() {
        "unknown"
    } else {
        write.manager
    };
    for entry in managed.iter_mut() {
        if entry.is(manager, Operation::Apply, write.api_version, write.subresource) {
            subtract(&mut entry.fields, &unowned.0);
        }
    }
    managed.retain(|e| !e.fields.is_empty());
}

/// Keeps the annotation of client-side apply in step, so that a user may go back to it.
fn update_last_applied(object: &mut Value, intent: &Value) {
    let Some(annotations) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let Some(Value::String(held)) = annotations.get_mut(LAST_APPLIED) else {
        return;
    };
    if held.is_empty() {
        return;
    }
    let mut intent = intent.clone();
    if let Some(given) = intent
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        given.remove(LAST_APPLIED);
    }
    *held = format!("{intent}\n");
}
