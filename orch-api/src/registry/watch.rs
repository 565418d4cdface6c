//! WATCH: a cursor into the shared history, selected, with bookmarks and, if asked for, the objects that there are.

use super::{Resource, Scope, options::ListOptions, output::Shape, select::Selection};
use crate::cache::{Caches, Change, Cursor};
use futures::{StreamExt, stream};
use orch_core::{
    Env, Object, Status,
    client::{EventStream, WatchEvent, WatchEventType},
    clock::Monotonic,
};
use serde_json::json;
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// How often a watcher that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without a time limit of its own ends after this, or up to twice as long.
const TIMEOUT_MIN: Duration = Duration::from_secs(1800);

impl Scope<'_> {
    /// WATCH.
    pub(crate) async fn watch(&self, options: &ListOptions, shape: Shape) -> Result<EventStream, Status> {
        let selection = self.selection(options)?;
        let caches = self.server.caches().clone();
        let cache = self.resource.cache.clone();
        // Without a word about initial events, a watch from no particular version begins with them, as it always did.
        let from_state = options
            .initial_events
            .unwrap_or(options.revision.unwrap_or(0) == 0);
        let (initial, cursor, revision) = if from_state {
            let complete = match options.revision {
                Some(0) => caches.revision(),
                Some(revision) => {
                    self.fresh(revision).await?;
                    caches.revision()
                }
                None => self.caught_up().await?,
            };
            let (listed, cursor) = Cursor::now(cache, &selection.prefix, complete);
            (listed.objects, cursor, listed.revision)
        } else {
            let revision = match options.revision {
                Some(revision) if revision > 0 => revision,
                _ => self.caught_up().await?,
            };
            let cursor = Cursor::after(cache, revision).map_err(|oldest| {
                Status::expired(format!("too old resource version: {revision} ({oldest})"))
            })?;
            (Vec::new(), cursor, revision)
        };
        let env = self.env().clone();
        let limit = options
            .timeout_seconds
            .map_or_else(|| TIMEOUT_MIN.mul_f64(1.0 + env.rng.unit()), Duration::from_secs);
        let now = env.clock.monotonic();
        let mut watcher = Watcher {
            resource: self.resource.clone(),
            shape,
            selection,
            cursor,
            caches,
            ready: VecDeque::new(),
            bookmarks: options.bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            deadline: now + limit,
            revision,
            env,
            due: false,
            ended: false,
        };
        for object in initial {
            if watcher.selection.matches(&object)
                && watcher.selection.covers_object(&watcher.resource, &object)
            {
                watcher.push(WatchEventType::Added, &object);
            }
        }
        if options.initial_events == Some(true) && options.bookmarks {
            let object = watcher.bookmark(true);
            watcher.ready.push_back(WatchEvent {
                kind: WatchEventType::Bookmark,
                object,
            });
        }
        Ok(stream::unfold(watcher, Watcher::next).boxed())
    }
}

impl Selection {
    fn covers_object(&self, resource: &Resource, object: &Object) -> bool {
        !self.single || self.covers(&resource.key(object.namespace(), object.name()))
    }
}

struct Watcher {
    resource: Arc<Resource>,
    shape: Shape,
    selection: Selection,
    cursor: Cursor,
    caches: Caches,
    ready: VecDeque<WatchEvent>,
    bookmarks: bool,
    next_bookmark: Monotonic,
    deadline: Monotonic,
    /// Everything up to here has been delivered.
    revision: u64,
    env: Env,
    /// A bookmark or the end is due.
    due: bool,
    ended: bool,
}

impl Watcher {
    async fn next(mut self) -> Option<(Result<WatchEvent, Status>, Self)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.ended {
                return None;
            }
            // Read before the changes: whatever happened up to here is among them.
            let complete = self.caches.revision();
            let Ok(changes) = self.cursor.take() else {
                // The client goes on from its last event, or learns then that it is too late for that.
                return None;
            };
            if changes.is_empty() {
                self.revision = self.revision.max(complete);
                if self.due {
                    self.end_of_interval();
                } else {
                    self.wait().await;
                }
                continue;
            }
            for change in &changes {
                self.revision = self.revision.max(change.revision);
                self.push_change(change);
            }
        }
    }

    /// Waits for changes, the next bookmark, or the end.
    async fn wait(&mut self) {
        let until = if self.bookmarks {
            self.next_bookmark.min(self.deadline)
        } else {
            self.deadline
        };
        let timer = self.env.clock.sleep_until(until);
        tokio::select! {
            () = self.cursor.ready() => {}
            () = timer => self.due = true,
        }
    }

    /// A bookmark is due, or the end, and there is nothing left to deliver before it.
    fn end_of_interval(&mut self) {
        let now = self.env.clock.monotonic();
        if self.bookmarks {
            let object = self.bookmark(false);
            self.ready.push_back(WatchEvent {
                kind: WatchEventType::Bookmark,
                object,
            });
            self.next_bookmark = now + BOOKMARK_EVERY;
        }
        self.ended = now >= self.deadline;
        self.due = false;
    }

    fn push_change(&mut self, change: &Arc<Change>) {
        if !self.selection.covers(&change.key) {
            return;
        }
        if self.selection.is_everything() {
            match (&change.object, &change.prev) {
                (Some(object), None) => self.push(WatchEventType::Added, object),
                (Some(object), Some(_)) => self.push(WatchEventType::Modified, object),
                (None, _) => self.push_gone(change),
            }
            return;
        }
        let is = change.object.as_ref().filter(|o| self.selection.matches(o));
        let was = change.prev.as_ref().is_some_and(|o| self.selection.matches(o));
        match (is, was) {
            (Some(object), false) => self.push(WatchEventType::Added, &object.clone()),
            (Some(object), true) => self.push(WatchEventType::Modified, &object.clone()),
            (None, true) => self.push_gone(change),
            (None, false) => {}
        }
    }

    fn push_gone(&mut self, change: &Change) {
        if let Some(object) = change.gone() {
            self.push(WatchEventType::Deleted, &object);
        }
    }

    fn push(&mut self, kind: WatchEventType, stored: &Arc<Object>) {
        let object = self
            .shape
            .object(&self.resource, self.resource.conversion.served(stored), &self.env);
        self.ready.push_back(WatchEvent { kind, object });
    }

    fn bookmark(&mut self, initial: bool) -> Arc<Object> {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.shape.bookmark(&self.resource, metadata)
    }
}
