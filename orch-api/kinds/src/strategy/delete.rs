//! Graceful deletion: how long an object lives on after its deletion was asked for.

use crate::json::{Json, JsonMut};
use orch_core::GroupVersionKind;
use serde_json::Value;

/// The grace period in seconds that a deletion of `object` gets, or `None` if its kind is deleted at once.
/// `requested` is what the request asked for. Only pods are deleted gracefully; a pod that no node runs, or that
/// has ended, gets zero.
#[must_use]
pub fn graceful_period(gvk: &GroupVersionKind, object: &Value, requested: Option<i64>) -> Option<i64> {
    if !(gvk.group.is_empty() && gvk.kind == "Pod") {
        return None;
    }
    let spec = object.at("spec");
    let period = requested
        .or_else(|| spec.int("terminationGracePeriodSeconds"))
        .unwrap_or(0);
    let unscheduled = spec.text("nodeName").is_empty();
    let ended = matches!(object.at("status").text("phase"), "Failed" | "Succeeded");
    // Negative periods count as one second.
    Some(if unscheduled || ended {
        0
    } else if period < 0 {
        1
    } else {
        period
    })
}

/// What a deletion request does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It goes now.
    Now,
    /// It was marked (or its remaining time shortened) and is to be stored so; its node ends it.
    Marked,
    /// It is being deleted already, at least as soon; nothing changes.
    Pending,
}

/// Marks `object` for deletion at `now` (RFC 3339 seconds, UTC) as `rest.BeforeDelete` does, where `requested` is the
/// grace period asked for. Times that can't be read count as `now`.
pub fn mark_for_deletion(
    gvk: &GroupVersionKind,
    object: &mut Value,
    requested: Option<i64>,
    now: jiff::Timestamp,
) -> Deletion {
    let requested = requested.map(|p| if p < 0 { 1 } else { p });
    let Some(period) = graceful_period(gvk, object, requested) else {
        return Deletion::Now;
    };
    let meta = object.at("metadata");
    let generation = meta.int("generation").unwrap_or(0);
    if meta.has("deletionTimestamp") {
        let held = meta.int("deletionGracePeriodSeconds").unwrap_or(0);
        let Some(asked) = requested else {
            return if held == 0 {
                Deletion::Now
            } else {
                Deletion::Pending
            };
        };
        if held == 0 {
            return Deletion::Now;
        }
        if asked >= held {
            return Deletion::Pending;
        }
        let deadline: jiff::Timestamp = meta.text("deletionTimestamp").parse().unwrap_or(now);
        let mut sooner = after(deadline, asked - held);
        let mut shortened = asked;
        if sooner < now {
            sooner = now;
            // The whole period has passed, but a graceful end was asked for: leave the node its minimum.
            shortened = asked.min(1);
        }
        write(object, sooner, shortened);
        return if shortened == 0 {
            Deletion::Now
        } else {
            Deletion::Marked
        };
    }
    write(object, after(now, period), period);
    if generation > 0
        && let Some(meta) = object.at_mut("metadata")
    {
        meta.set("generation", generation.saturating_add(1));
    }
    if period == 0 {
        Deletion::Now
    } else {
        Deletion::Marked
    }
}

fn after(time: jiff::Timestamp, seconds: i64) -> jiff::Timestamp {
    time.checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(time)
}

fn write(object: &mut Value, deadline: jiff::Timestamp, period: i64) {
    if let Some(meta) = object.ensure("metadata") {
        meta.set(
            "deletionTimestamp",
            deadline.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
        meta.set("deletionGracePeriodSeconds", period);
    }
}
