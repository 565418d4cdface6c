//! Request parameters (`meta/v1` `CreateOptions`, `UpdateOptions`, `PatchOptions`, `DeleteOptions`, `ListOptions`).

use orch_core::{
    GroupVersionKind, Status,
    client::{ApiRequest, PatchKind},
    selector::{FieldSelector, LabelSelector},
};
use orch_kinds::field::{FieldErrors, Path};
use serde_json::Value;

/// What to do about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FieldValidation {
    /// Nothing.
    Ignore,
    /// Warn.
    #[default]
    Warn,
    /// Refuse.
    Strict,
}

/// Parameters of a write.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteOptions {
    /// Do everything but store.
    pub(crate) dry_run: bool,
    /// Who owns the fields that are written.
    pub(crate) field_manager: String,
    /// What to do about unknown fields.
    pub(crate) validation: FieldValidation,
    /// For apply: take over conflicting fields.
    pub(crate) force: bool,
}

fn params<'a>(request: &'a ApiRequest, name: &str) -> impl Iterator<Item = &'a str> {
    request
        .query
        .iter()
        .filter(move |(n, _)| n == name)
        .map(|(_, v)| v.as_str())
}

fn boolean(request: &ApiRequest, name: &str) -> Option<bool> {
    request
        .query_value(name)
        .map(|v| !matches!(v, "false" | "0" | "False" | "FALSE" | "f" | "F"))
}

fn integer(request: &ApiRequest, name: &str) -> Result<Option<i64>, Status> {
    let Some(text) = request.query_value(name).filter(|t| !t.is_empty()) else {
        return Ok(None);
    };
    let parsed = text.parse();
    parsed
        .map(Some)
        .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}

fn meta_kind(kind: &str) -> GroupVersionKind {
    GroupVersionKind::new("meta.k8s.io", "v1", kind)
}

fn check_dry_run(values: &[&str], errors: &mut FieldErrors) -> bool {
    if values.iter().any(|v| *v != "All") {
        let bad: Vec<Value> = values.iter().map(|v| Value::from(*v)).collect();
        errors.not_supported(&Path::new("dryRun"), Value::from(bad), &["All"]);
    }
    !values.is_empty()
}

impl WriteOptions {
    /// The parameters of a creation (`CreateOptions`), update (`UpdateOptions`) or, with its format, a patch.
    pub(crate) fn of(request: &ApiRequest, kind: &str, patch: Option<PatchKind>) -> Result<Self, Status> {
        let mut errors = FieldErrors::new();
        let force = boolean(request, "force");
        let field_manager = request.query_value("fieldManager").unwrap_or_default().to_owned();
        match patch {
            Some(PatchKind::Apply) if field_manager.is_empty() => {
                errors.required(&Path::new("fieldManager"), "is required for apply patch");
            }
            Some(PatchKind::Apply) | None => {}
            Some(_) if force.is_some() => {
                errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
            }
            Some(_) => {}
        }
        if field_manager.len() > 128 {
            errors.push(orch_kinds::field::FieldError::too_long(
                &Path::new("fieldManager"),
                128,
            ));
        }
        for (at, c) in field_manager.char_indices().filter(|(_, c)| c.is_control()) {
            let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            errors.invalid(&Path::new("fieldManager"), field_manager.as_str(), detail);
        }
        let dry_run: Vec<&str> = params(request, "dryRun").collect();
        let dry_run = check_dry_run(&dry_run, &mut errors);
        let validation = match request.query_value("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                errors.not_supported(
                    &Path::new("fieldValidation"),
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                );
                FieldValidation::Warn
            }
        };
        if errors.is_empty() {
            Ok(Self {
                dry_run,
                field_manager,
                validation,
                force: force.unwrap_or(false),
            })
        } else {
            Err(errors.into_status(&meta_kind(kind), ""))
        }
    }
}

/// What becomes of the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// Left alone.
    Orphan,
    /// Deleted after it.
    Background,
    /// Deleted before it.
    Foreground,
}

/// Parameters of a deletion.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeleteOptions {
    /// Do everything but store.
    pub(crate) dry_run: bool,
    /// Seconds to end in; `None` for the object's own.
    pub(crate) grace: Option<i64>,
    /// Only if it has this UID.
    pub(crate) uid: Option<String>,
    /// Only if it has this resource version.
    pub(crate) resource_version: Option<String>,
    /// What becomes of dependents, if said.
    pub(crate) propagation: Option<Propagation>,
    /// The old form of `propagation`, if said.
    pub(crate) orphan: Option<bool>,
}

impl DeleteOptions {
    /// From a decoded body, or from the query parameters if there is none.
    pub(crate) fn of(request: &ApiRequest, body: Option<&Value>) -> Result<Self, Status> {
        let mut errors = FieldErrors::new();
        let (propagation, dry_run): (Option<String>, Vec<String>);
        let mut found = Self::default();
        if let Some(body) = body {
            let wrong = |what: &str| Status::bad_request(format!("DeleteOptions: {what} has the wrong type"));
            let get = |name: &str| body.get(name).filter(|v| !v.is_null());
            let kind = get("kind").and_then(Value::as_str).unwrap_or("DeleteOptions");
            if kind != "DeleteOptions" || !body.is_object() {
                return Err(Status::bad_request(
                    "decoded object cannot be converted to DeleteOptions",
                ));
            }
            if let Some(grace) = get("gracePeriodSeconds") {
                found.grace = Some(grace.as_i64().ok_or_else(|| wrong("gracePeriodSeconds"))?);
            }
            if let Some(orphan) = get("orphanDependents") {
                found.orphan = Some(orphan.as_bool().ok_or_else(|| wrong("orphanDependents"))?);
            }
            if let Some(preconditions) = get("preconditions") {
                let text = |name: &str| {
                    preconditions
                        .get(name)
                        .and_then(Value::as_str)
                        .map(ToOwned::to_owned)
                };
                (found.uid, found.resource_version) = (text("uid"), text("resourceVersion"));
            }
            propagation = get("propagationPolicy").map(|p| p.as_str().unwrap_or_default().to_owned());
            let list = get("dryRun").and_then(Value::as_array).into_iter().flatten();
            dry_run = list.map(|v| v.as_str().unwrap_or_default().to_owned()).collect();
        } else {
            found.grace = integer(request, "gracePeriodSeconds")?;
            found.orphan = boolean(request, "orphanDependents");
            propagation = request.query_value("propagationPolicy").map(ToOwned::to_owned);
            dry_run = params(request, "dryRun").map(ToOwned::to_owned).collect();
        }
        let policy = Path::new("propagationPolicy");
        if let (Some(_), Some(text)) = (found.orphan, &propagation) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.invalid(&policy, text.as_str(), detail);
        }
        found.propagation = match propagation.as_deref() {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                errors.not_supported(&policy, other, &["Foreground", "Background", "Orphan", "nil"]);
                None
            }
        };
        found.dry_run = check_dry_run(
            &dry_run.iter().map(String::as_str).collect::<Vec<_>>(),
            &mut errors,
        );
        if errors.is_empty() {
            Ok(found)
        } else {
            Err(errors.into_status(&meta_kind("DeleteOptions"), ""))
        }
    }
}

/// How a list's resource version is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    /// Exactly that state.
    Exact,
    /// Not older than that.
    NotOlderThan,
}

/// Parameters of a list or watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListOptions {
    /// Label selector.
    pub(crate) labels: LabelSelector,
    /// Field selector.
    pub(crate) fields: FieldSelector,
    /// Resource version: `None` for the latest, 0 for any.
    pub(crate) revision: Option<u64>,
    /// How `revision` is meant.
    pub(crate) version_match: Option<VersionMatch>,
    /// Page size; 0 is everything.
    pub(crate) limit: usize,
    /// Token of the next page.
    pub(crate) continue_token: String,
    /// Seconds after which to end a watch.
    pub(crate) timeout_seconds: Option<u64>,
    /// Whether to send bookmarks.
    pub(crate) bookmarks: bool,
    /// Whether a watch begins with the objects that there are.
    pub(crate) initial_events: Option<bool>,
}

impl ListOptions {
    /// From the query parameters.
    pub(crate) fn of(request: &ApiRequest, watch: bool) -> Result<Self, Status> {
        let text = |name: &str| request.query_value(name).unwrap_or_default();
        let bad = |e: &dyn std::fmt::Display| Status::bad_request(e.to_string());
        let mut found = Self {
            labels: LabelSelector::parse(text("labelSelector")).map_err(|e| bad(&e))?,
            fields: FieldSelector::parse(text("fieldSelector")).map_err(|e| bad(&e))?,
            limit: usize::try_from(integer(request, "limit")?.unwrap_or(0)).unwrap_or(0),
            continue_token: text("continue").to_owned(),
            timeout_seconds: integer(request, "timeoutSeconds")?
                .and_then(|t| u64::try_from(t).ok())
                .filter(|t| *t > 0),
            bookmarks: boolean(request, "allowWatchBookmarks").unwrap_or(false),
            initial_events: boolean(request, "sendInitialEvents"),
            ..Self::default()
        };
        let mut errors = FieldErrors::new();
        let version = text("resourceVersion");
        found.check_match(text("resourceVersionMatch"), version, watch, &mut errors);
        if !errors.is_empty() {
            return Err(errors.into_status(&meta_kind("ListOptions"), ""));
        }
        if !version.is_empty() {
            found.revision = Some(parse_revision(version)?);
        }
        // A watch that says nothing about initial events, from no or any version, begins with them.
        if watch && found.initial_events.is_none() && found.revision.unwrap_or(0) == 0 {
            found.initial_events = None;
        }
        Ok(found)
    }

    fn check_match(&mut self, given: &str, version: &str, watch: bool, errors: &mut FieldErrors) {
        let (path, initial) = (Path::new("resourceVersionMatch"), Path::new("sendInitialEvents"));
        self.version_match = match given {
            "Exact" => Some(VersionMatch::Exact),
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            _ => None,
        };
        if watch {
            if self.initial_events.is_some() && given != "NotOlderThan" {
                errors.forbidden(
                    &path,
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                );
            }
            if !given.is_empty() {
                if self.initial_events.is_none() {
                    errors.forbidden(
                        &path,
                        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                    );
                }
                if given != "NotOlderThan" {
                    errors.not_supported(&path, given, &["NotOlderThan"]);
                }
                if !self.continue_token.is_empty() {
                    errors.forbidden(
                        &path,
                        "resourceVersionMatch is forbidden when continue is provided",
                    );
                }
            }
            return;
        }
        if !given.is_empty() {
            if version.is_empty() {
                errors.forbidden(
                    &path,
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if !self.continue_token.is_empty() {
                errors.forbidden(
                    &path,
                    "resourceVersionMatch is forbidden when continue is provided",
                );
            }
            if self.version_match.is_none() {
                errors.not_supported(&path, given, &["Exact", "NotOlderThan", ""]);
            }
            if given == "Exact" && version == "0" {
                errors.forbidden(
                    &path,
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                );
            }
        }
        if self.initial_events.is_some() {
            errors.forbidden(&initial, "sendInitialEvents is forbidden for list");
        }
    }
}

/// A resource version given by a client.
pub(crate) fn parse_revision(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| {
        let mut errors = FieldErrors::new();
        let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        errors.invalid(&Path::new("resourceVersion"), text, detail);
        Status::bad_request(format!("invalid resource version {text:?}: {errors}"))
    })
}
