//! Parameters of operations.

use crate::Form;
use serde_json::{Value, json};

/// Where a parameter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Query,
    Path,
}

/// A parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) ty: &'static str,
    pub(crate) text: &'static str,
}

const fn query(name: &'static str, ty: &'static str, text: &'static str) -> Parameter {
    Parameter {
        name,
        place: Place::Query,
        ty,
        text,
    }
}

pub(crate) const NAME: Parameter = Parameter {
    name: "name",
    place: Place::Path,
    ty: "string",
    text: "name of the object",
};
pub(crate) const NAMESPACE: Parameter = Parameter {
    name: "namespace",
    place: Place::Path,
    ty: "string",
    text: "namespace of the object",
};
pub(crate) const PRETTY: Parameter = query("pretty", "string", "If 'true', the output is indented.");

const DRY_RUN: Parameter = query(
    "dryRun",
    "string",
    "With the value All, every stage runs but nothing is stored. No other value is valid.",
);
const FIELD_MANAGER: Parameter = query(
    "fieldManager",
    "string",
    "Who makes the change, for field ownership; at most 128 printable characters.",
);
const FIELD_VALIDATION: Parameter = query(
    "fieldValidation",
    "string",
    "What becomes of unknown and duplicate fields: Ignore drops them, Warn drops them with a warning each (the default), Strict refuses the request.",
);
const FORCE: Parameter = query(
    "force",
    "boolean",
    "For server-side apply: take fields that others own. Not for other patches.",
);
const GRACE: Parameter = query(
    "gracePeriodSeconds",
    "integer",
    "Seconds until the object is deleted; 0 deletes at once.",
);
const PROPAGATION: Parameter = query(
    "propagationPolicy",
    "string",
    "What becomes of dependents: Orphan, Background or Foreground.",
);
const ORPHAN: Parameter = query(
    "orphanDependents",
    "boolean",
    "Deprecated: use propagationPolicy.",
);

pub(crate) const LIST: [Parameter; 10] = [
    query(
        "allowWatchBookmarks",
        "boolean",
        "Lets a watch send BOOKMARK events.",
    ),
    query(
        "continue",
        "string",
        "Goes on with a list: the token of the previous part.",
    ),
    query(
        "fieldSelector",
        "string",
        "Restricts the objects by their fields.",
    ),
    query(
        "labelSelector",
        "string",
        "Restricts the objects by their labels.",
    ),
    query(
        "limit",
        "integer",
        "The most objects to return; the rest is had with continue.",
    ),
    query(
        "resourceVersion",
        "string",
        "Which version of the data may be served.",
    ),
    query(
        "resourceVersionMatch",
        "string",
        "How resourceVersion applies to a list: Exact or NotOlderThan.",
    ),
    query(
        "sendInitialEvents",
        "boolean",
        "Begins a watch with the objects that exist, followed by a bookmark.",
    ),
    query(
        "timeoutSeconds",
        "integer",
        "Ends the list or watch after this time.",
    ),
    query("watch", "boolean", "Streams changes instead of listing."),
];
pub(crate) const WRITE: [Parameter; 3] = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
pub(crate) const PATCH: [Parameter; 4] = [DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
pub(crate) const DELETE: [Parameter; 4] = [DRY_RUN, GRACE, ORPHAN, PROPAGATION];
pub(crate) const LOG: [Parameter; 10] = [
    query(
        "container",
        "string",
        "Whose log; may be left out if there is but one container.",
    ),
    query("follow", "boolean", "Keeps the stream open for what comes."),
    query(
        "insecureSkipTLSVerifyBackend",
        "boolean",
        "Does not verify the node's certificate.",
    ),
    query("limitBytes", "integer", "The most bytes to return."),
    query(
        "previous",
        "boolean",
        "The log of the container before its last restart.",
    ),
    query("sinceSeconds", "integer", "Only what is younger than this."),
    query("stream", "string", "All, Stdout or Stderr."),
    query("tailLines", "integer", "The number of lines from the end."),
    query("timestamps", "boolean", "Begins each line with its time."),
    PRETTY,
];
pub(crate) const STREAM: [Parameter; 6] = [
    query("command", "string", "The command and its arguments, one each."),
    query(
        "container",
        "string",
        "The container; may be left out if there is but one.",
    ),
    query("stderr", "boolean", "Connects standard error."),
    query("stdin", "boolean", "Connects standard input."),
    query("stdout", "boolean", "Connects standard output."),
    query("tty", "boolean", "Allocates a terminal."),
];
pub(crate) const PROXY: [Parameter; 1] = [query("path", "string", "The path to request from the target.")];
pub(crate) const PORTS: [Parameter; 1] = [query("ports", "integer", "The ports to forward.")];

impl Parameter {
    pub(crate) fn render(&self, form: Form) -> Value {
        let place = match self.place {
            Place::Query => "query",
            Place::Path => "path",
        };
        let mut value = json!({"name": self.name, "in": place, "description": self.text});
        if self.place == Place::Path {
            value["required"] = true.into();
        }
        match form {
            Form::V2 => {
                value["type"] = self.ty.into();
                value["uniqueItems"] = true.into();
            }
            Form::V3 => value["schema"] = json!({"type": self.ty, "uniqueItems": true}),
        }
        value
    }
}
