//! Lists' selection and watches: cursors into one shared history.

use super::{
    FakeApi,
    path::Target,
    state::{Change, State},
};
use crate::{
    Env, Object, Status,
    client::{ApiRequest, EventStream, WatchEvent, WatchEventType},
    clock::Monotonic,
    selector::{FieldSelector, LabelSelector},
};
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::VecDeque, sync::Arc, time::Duration};

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
const FAR: Duration = Duration::from_secs(1 << 30);

/// Which objects of a collection a request means.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    collection: String,
    namespace: String,
    name: String,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    pub(super) fn of(target: &Target, request: &ApiRequest) -> Result<Self, Status> {
        let param = |name| request.query_value(name).unwrap_or_default();
        let labels = LabelSelector::parse(param("labelSelector"));
        let fields = FieldSelector::parse(param("fieldSelector"));
        Ok(Self {
            collection: target.collection(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            labels: labels.map_err(|e| Status::bad_request(e.to_string()))?,
            fields: fields.map_err(|e| Status::bad_request(e.to_string()))?,
        })
    }

    pub(super) fn selects(&self, object: &Object) -> bool {
        let labels = object.value().pointer("/metadata/labels");
        (self.namespace.is_empty() || object.namespace() == self.namespace)
            && (self.name.is_empty() || object.name() == self.name)
            && self
                .labels
                .matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
            && self.fields.matches_value(object.value())
    }

    /// What a change is to a watcher of this selection.
    fn event(&self, change: &Change) -> Option<WatchEvent> {
        if change.collection != self.collection {
            return None;
        }
        let before = change.before.as_ref().filter(|o| self.selects(o));
        let after = change.after.as_ref().filter(|o| self.selects(o));
        let event = |kind, object: &Arc<Object>| {
            Some(WatchEvent {
                kind,
                object: object.clone(),
            })
        };
        match (before, after) {
            (None, None) => None,
            (None, Some(new)) => event(WatchEventType::Added, new),
            (Some(_), Some(new)) => event(WatchEventType::Modified, new),
            (Some(old), None) => {
                // Deleted, or no longer selected: its last selected state, at the revision of the change.
                let mut value = change.tombstone.as_ref().unwrap_or(old).value().clone();
                value["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                event(WatchEventType::Deleted, &Arc::new(Object::from_value(value)))
            }
        }
    }
}

struct Cursor {
    env: Env,
    changed: tokio::sync::watch::Receiver<u64>,
    selection: Selection,
    bookmarks: bool,
    /// Next index into the history.
    next: u64,
    revision: u64,
    ready: VecDeque<WatchEvent>,
    ends_at: Option<Monotonic>,
    bookmark_at: Monotonic,
    failed: bool,
}

impl FakeApi {
    pub(super) fn open_watch(&self, request: &ApiRequest) -> Result<EventStream, Status> {
        let target = Target::parse(&request.path)?;
        let selection = Selection::of(&target, request)?;
        let state = self.state.lock();
        let mut ready = VecDeque::new();
        let (from, next) = match request.query_value("resourceVersion").unwrap_or_default() {
            "" | "0" => {
                let collection = state.collections.get(&target.collection());
                ready.extend(
                    collection
                        .into_iter()
                        .flat_map(|c| c.values())
                        .filter(|o| selection.selects(o))
                        .map(|o| WatchEvent {
                            kind: WatchEventType::Added,
                            object: o.clone(),
                        }),
                );
                (state.revision, state.history_start + state.history.len() as u64)
            }
            text => {
                let from: u64 = text
                    .parse()
                    .map_err(|_| Status::bad_request(format!("Invalid value: {text:?}")))?;
                if from < state.compacted {
                    return Err(Status::expired(format!(
                        "too old resource version: {from} ({})",
                        state.compacted
                    )));
                }
                let skip = state.history.partition_point(|c| c.revision <= from);
                (from, state.history_start + skip as u64)
            }
        };
        drop(state);
        let timeout_s: Option<u64> = request.query_value("timeoutSeconds").and_then(|s| s.parse().ok());
        let cursor = Cursor {
            env: self.env.clone(),
            changed: self.changed.subscribe(),
            selection,
            bookmarks: request.query_value("allowWatchBookmarks") == Some("true"),
            next,
            revision: from,
            ready,
            ends_at: timeout_s.map(|s| self.env.clock.monotonic() + Duration::from_secs(s)),
            bookmark_at: self.env.clock.monotonic() + BOOKMARK_EVERY,
            failed: false,
        };
        let this = Handle(self.state.clone());
        Ok(stream::unfold((this, cursor), |(this, mut cursor)| async move {
            let item = this.next_event(&mut cursor).await?;
            Some((item, (this, cursor)))
        })
        .boxed())
    }
}

/// The server's state, as a stream owns it.
pub(super) struct Handle(pub(super) Arc<Mutex<State>>);

impl Handle {
    /// The changes from index `from` on, and the revision they reach; `None` if some of them are gone.
    fn since(&self, from: u64) -> Option<(Vec<Change>, u64)> {
        let state = self.0.lock();
        let skip = usize::try_from(from.checked_sub(state.history_start)?).ok()?;
        Some((state.history.iter().skip(skip).cloned().collect(), state.revision))
    }

    async fn next_event(&self, cursor: &mut Cursor) -> Option<Result<WatchEvent, Status>> {
        if cursor.failed {
            return None;
        }
        loop {
            if let Some(event) = cursor.ready.pop_front() {
                return Some(Ok(event));
            }
            cursor.changed.mark_unchanged();
            let Some((changes, revision)) = self.since(cursor.next) else {
                cursor.failed = true;
                return Some(Err(Status::expired("too old resource version")));
            };
            cursor.next += changes.len() as u64;
            cursor.revision = revision.max(cursor.revision);
            cursor
                .ready
                .extend(changes.iter().filter_map(|c| cursor.selection.event(c)));
            if !cursor.ready.is_empty() {
                continue;
            }
            let clock = cursor.env.clock.clone();
            let ends_at = cursor.ends_at.unwrap_or(Monotonic(FAR));
            tokio::select! {
                changed = cursor.changed.changed() => if changed.is_err() { return None },
                () = clock.sleep_until(ends_at), if cursor.ends_at.is_some() => return None,
                () = clock.sleep_until(cursor.bookmark_at), if cursor.bookmarks => {
                    cursor.bookmark_at = clock.monotonic() + BOOKMARK_EVERY;
                    let object = json!({"metadata": {"resourceVersion": cursor.revision.to_string()}});
                    let object = Arc::new(Object::from_value(object));
                    return Some(Ok(WatchEvent { kind: WatchEventType::Bookmark, object }));
                }
            }
        }
    }
}
