//! The Table form of objects (`meta.k8s.io/v1` `Table`): what `kubectl get` shows.
//!
//! Columns are facts of a v1.36 API server (`data/table-columns.tsv`); rows follow
//! `pkg/printers/internalversion/printers.go`. A row always has the cells of all columns, also of those with a
//! priority above 0, which kubectl shows with `-o wide`. Ages are relative to `now`, the server's time.

mod custom;
mod duration;
mod jsonpath;
mod kinds;
mod pod;

pub use custom::{CustomTable, PathError};
pub use duration::human_duration;

use crate::json::Json;
use jiff::Timestamp;
use orch_core::{GroupVersion, GroupVersionKind, GroupVersionResource};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A column of a Table, as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `name` for the object's name, else mostly empty.
    pub format: String,
    /// What the cells tell.
    pub description: String,
    /// 0 is always shown, more is for wide output.
    pub priority: i32,
}

impl Column {
    fn new(name: &str, kind: &str, format: &str, priority: i32) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            format: format.into(),
            description: describe(name).into(),
            priority,
        }
    }
}

static COLUMNS: LazyLock<BTreeMap<GroupVersionResource, Vec<Column>>> = LazyLock::new(|| {
    let mut columns: BTreeMap<GroupVersionResource, Vec<Column>> = BTreeMap::new();
    for line in include_str!("../../data/table-columns.tsv")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        let mut cells = line.split('\t');
        let mut next = || cells.next().unwrap_or_default();
        let (version, resource, name, kind, format) = (next(), next(), next(), next(), next());
        let priority = next().parse().unwrap_or(0);
        let Some(gv) = GroupVersion::parse(version) else {
            continue;
        };
        let gvr = GroupVersionResource::new(gv.group, gv.version, resource);
        columns
            .entry(gvr)
            .or_default()
            .push(Column::new(name, kind, format, priority));
    }
    columns
});

static DEFAULT: LazyLock<Vec<Column>> = LazyLock::new(|| {
    vec![
        Column::new("Name", "string", "name", 0),
        Column::new("Created At", "date", "", 0),
    ]
});

/// The columns of a built-in resource; of any other, name and creation time.
#[must_use]
pub fn columns(resource: &GroupVersionResource) -> &'static [Column] {
    COLUMNS.get(resource).unwrap_or(&DEFAULT)
}

/// The cells of `object`, one for each of the [`columns`] of its resource.
#[must_use]
pub fn row(kind: &GroupVersionKind, object: &Value, now: Timestamp) -> Vec<Value> {
    let cells = kinds::cells(kind, object, now);
    cells.unwrap_or_else(|| {
        vec![
            name(object),
            json!(object.at("metadata").text("creationTimestamp")),
        ]
    })
}

/// The conditions of a row: a pod that has ended is `Completed`.
#[must_use]
pub fn row_conditions(kind: &GroupVersionKind, object: &Value) -> Vec<Value> {
    if !(kind.group.is_empty() && kind.kind == "Pod") {
        return Vec::new();
    }
    let message = match object.at("status").text("phase") {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Vec::new(),
    };
    let reason = object.at("status").at("phase").clone();
    vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
}

fn name(object: &Value) -> Value {
    object.at("metadata").text("name").into()
}

/// How long ago a time was, or `<unknown>`.
fn since(time: &Value, now: Timestamp) -> String {
    match time.as_str().and_then(|t| t.parse::<Timestamp>().ok()) {
        Some(time) => human_duration(now.duration_since(time)),
        None => "<unknown>".into(),
    }
}

fn age(object: &Value, now: Timestamp) -> Value {
    since(object.at("metadata").at("creationTimestamp"), now).into()
}

fn describe(column: &str) -> &'static str {
    match column {
        "Name" => "Name of the object, unique for its resource within a namespace.",
        "Age" => "Time since the object was created.",
        "Created At" => "When the object was created.",
        "Status" => "State that the object is in now.",
        "Ready" => "How many are ready, of those that there should be.",
        "Restarts" => "How often containers were restarted, and when last.",
        "IP" => "Address of the pod.",
        "Node" => "Node that runs the pod.",
        "Nominated Node" => "Node that is being made ready for the pod.",
        "Readiness Gates" => "How many readiness gates are passed.",
        "Desired" => "Number of pods asked for.",
        "Current" => "Number of pods that there are.",
        "Up-to-date" => "Number of pods of the newest template.",
        "Available" => "Number of pods that have been ready for long enough.",
        "Containers" => "Names of the containers.",
        "Images" => "Images of the containers.",
        "Selector" => "Labels that select the pods.",
        "Completions" => "How many pods have succeeded, of those that must.",
        "Duration" => "Time from start to end, or until now.",
        "Roles" => "Roles of the node, from its labels.",
        "Version" => "Version of the node's agent.",
        "Internal-IP" => "Address of the node within the cluster.",
        "External-IP" => "Address for clients outside of the cluster.",
        "OS-Image" => "Operating system of the node.",
        "Kernel-Version" => "Kernel of the node.",
        "Container-Runtime" => "Container runtime of the node.",
        "Cluster-IP" => "Address of the service within the cluster.",
        "Port(s)" => "Ports and protocols.",
        "Type" => "Sort of the object.",
        "Data" => "Number of entries.",
        "Endpoints" => "Addresses behind the service.",
        "Ports" => "Ports of the endpoints.",
        "AddressType" => "Family of the addresses.",
        "Last Seen" => "Time since it happened last.",
        "First Seen" => "Time since it happened first.",
        "Count" => "How often it happened.",
        "Reason" => "Why, in one word.",
        "Object" => "What it happened to.",
        "Subobject" => "Part of the object.",
        "Source" => "Who reported it.",
        "Message" => "What happened.",
        "Holder" => "Who holds the lease.",
        "Role" => "Role that is bound.",
        "Users" => "Users that it is bound to.",
        "Groups" => "Groups that it is bound to.",
        "ServiceAccounts" => "Service accounts that it is bound to.",
        "Min Available" => "Pods that must stay available.",
        "Max Unavailable" => "Pods that may be unavailable.",
        "Allowed Disruptions" => "Pods that may be evicted now.",
        "Value" => "Priority of pods of this class.",
        "Global-Default" => "Whether pods without a class get this one.",
        "PreemptionPolicy" => "Whether pods of this class push others out.",
        "Handler" => "Configuration of the container runtime.",
        "Controller" => "Object that owns it.",
        "Revision" => "Number of the revision.",
        "Drivers" => "Number of storage drivers.",
        "Provisioner" => "What makes volumes of this class.",
        "ReclaimPolicy" => "What becomes of released volumes.",
        "VolumeBindingMode" => "When volumes are bound.",
        "AllowVolumeExpansion" => "Whether volumes can grow.",
        "Pod Labels" => "Labels of pods of this template.",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
