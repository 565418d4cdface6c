//! Folding of repeated events; pure.

use crate::clock::Monotonic;
use k8s_openapi::{api::core::v1::Event, apimachinery::pkg::apis::meta::v1::Time};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const CACHE: usize = 4096;
const AGGREGATE_AFTER: usize = 10;
const AGGREGATE_WINDOW: Duration = Duration::from_secs(600);
const SPAM_BURST: f64 = 25.0;
const SPAM_REFILL_S: f64 = 300.0;

/// What to do with an event.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The object has too many.
    Drop,
    /// Create it, or raise the count of the one of its name if its count is above one.
    Write(Box<Event>),
}

struct Bucket {
    tokens: f64,
    at: Monotonic,
}

struct Similar {
    messages: BTreeSet<String>,
    last: Monotonic,
}

struct Seen {
    name: Option<String>,
    count: i32,
    first: Option<Time>,
}

/// Remembers at most [`CACHE`] keys and forgets the one not used for longest.
struct Lru<V> {
    entries: BTreeMap<String, (u64, V)>,
    order: BTreeMap<u64, String>,
    tick: u64,
}

impl<V> Default for Lru<V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            order: BTreeMap::new(),
            tick: 0,
        }
    }
}

impl<V> Lru<V> {
    fn entry(&mut self, key: &str, make: impl FnOnce() -> V) -> &mut V {
        self.tick += 1;
        let tick = self.tick;
        if let Some((used, _)) = self.entries.get(key) {
            self.order.remove(used);
        } else if self.entries.len() >= CACHE
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        self.order.insert(tick, key.to_owned());
        let entry = self
            .entries
            .entry(key.to_owned())
            .or_insert_with(|| (tick, make()));
        entry.0 = tick;
        &mut entry.1
    }
    fn remove(&mut self, key: &str) {
        if let Some((used, _)) = self.entries.remove(key) {
            self.order.remove(&used);
        }
    }
}

#[derive(Default)]
pub(super) struct Correlator {
    spam: Lru<Bucket>,
    similar: Lru<Similar>,
    seen: Lru<Seen>,
}

fn object_key(event: &Event) -> Vec<String> {
    let source = event.source.clone().unwrap_or_default();
    let about = &event.involved_object;
    [
        source.component,
        source.host,
        about.kind.clone(),
        about.namespace.clone(),
        about.name.clone(),
        about.uid.clone(),
        about.api_version.clone(),
        event.type_.clone(),
    ]
    .into_iter()
    .map(Option::unwrap_or_default)
    .collect()
}

impl Correlator {
    /// The verdict on a new event, and the key it is remembered under.
    pub(super) fn observe(&mut self, mut event: Event, now: Monotonic) -> (Verdict, String) {
        let mut key = object_key(&event);
        if !self.take_token(&key.join("\0"), now) {
            return (Verdict::Drop, String::new());
        }
        key.push(event.reason.clone().unwrap_or_default());
        let group = key.join("\0");
        key.push(event.message.clone().unwrap_or_default());
        key.push(event.involved_object.field_path.clone().unwrap_or_default());
        let mut key = key.join("\0");
        if self.is_one_of_many(&group, event.message.as_deref().unwrap_or_default(), now) {
            let message = event.message.unwrap_or_default();
            event.message = Some(format!("(combined from similar events): {message}"));
            key = group;
        }
        let seen = self.seen.entry(&key, || Seen {
            name: None,
            count: 0,
            first: None,
        });
        seen.count = seen.count.saturating_add(1);
        if seen.count > 1 {
            event.metadata.name.clone_from(&seen.name);
            event.first_timestamp.clone_from(&seen.first);
            event.count = Some(seen.count);
        } else {
            seen.name.clone_from(&event.metadata.name);
            seen.first.clone_from(&event.first_timestamp);
        }
        (Verdict::Write(Box::new(event)), key)
    }

    /// The event of this key does not exist: the next one begins anew.
    pub(super) fn forget(&mut self, key: &str) {
        self.seen.remove(key);
    }

    fn take_token(&mut self, key: &str, now: Monotonic) -> bool {
        let bucket = self.spam.entry(key, || Bucket {
            tokens: SPAM_BURST,
            at: now,
        });
        let refill = now.since(bucket.at).as_secs_f64() / SPAM_REFILL_S;
        bucket.tokens = (bucket.tokens + refill).min(SPAM_BURST);
        bucket.at = now;
        let accepted = bucket.tokens >= 1.0;
        if accepted {
            bucket.tokens -= 1.0;
        }
        accepted
    }

    fn is_one_of_many(&mut self, group: &str, message: &str, now: Monotonic) -> bool {
        let similar = self.similar.entry(group, || Similar {
            messages: BTreeSet::new(),
            last: now,
        });
        if now.since(similar.last) > AGGREGATE_WINDOW {
            similar.messages.clear();
        }
        similar.last = now;
        similar.messages.insert(message.to_owned());
        if similar.messages.len() < AGGREGATE_AFTER {
            return false;
        }
        similar.messages.pop_first();
        true
    }
}
