//! The bounded past: every change in order, shared by all watchers and cheap to copy.

use crate::store::{Revision, WatchEvent};
use std::collections::VecDeque;
use std::sync::Arc;

/// Events in one block. A copy of the history shares blocks.
const BLOCK: usize = 512;

/// What an event costs in memory beyond its bytes: the event, its share of the block and of the version list.
const EVENT_OVERHEAD: usize = 200;

/// Changes in revision order, appended at one end and dropped at the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    blocks: VecDeque<Arc<Vec<Arc<WatchEvent>>>>,
    /// How many events at the start of the first block were dropped already.
    skip: usize,
    len: usize,
    bytes: usize,
}

/// What keeping this event costs: the superseded value lives on only for history's sake.
fn cost(event: &WatchEvent) -> usize {
    EVENT_OVERHEAD + event.prev.as_ref().map_or(0, |kv| kv.value.len())
}

impl History {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Estimated memory that would be free without history.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, event: Arc<WatchEvent>) {
        self.len += 1;
        self.bytes += cost(&event);
        match self.blocks.back_mut() {
            Some(block) if block.len() < BLOCK => Arc::make_mut(block).push(event),
            _ => self.blocks.push_back(Arc::new(vec![event])),
        }
    }

    pub(crate) fn front(&self) -> Option<&Arc<WatchEvent>> {
        self.blocks.front().and_then(|block| block.get(self.skip))
    }

    pub(crate) fn pop_front(&mut self) -> Option<Arc<WatchEvent>> {
        let event = Arc::clone(self.front()?);
        self.len -= 1;
        self.bytes -= cost(&event);
        self.skip += 1;
        if self.blocks.front().is_some_and(|block| self.skip >= block.len()) {
            self.blocks.pop_front();
            self.skip = 0;
        }
        Some(event)
    }

    /// The kept events at and above `from`, in order.
    pub(crate) fn since(&self, from: Revision) -> impl Iterator<Item = &Arc<WatchEvent>> {
        let block = self
            .blocks
            .partition_point(|b| b.last().is_some_and(|e| e.revision() < from));
        let inside = self
            .blocks
            .get(block)
            .map_or(0, |b| b.partition_point(|e| e.revision() < from));
        let inside = if block == 0 { inside.max(self.skip) } else { inside };
        let first = self
            .blocks
            .get(block)
            .map(|b| b.get(inside..).unwrap_or_default());
        first
            .into_iter()
            .flatten()
            .chain(self.blocks.iter().skip(block + 1).flat_map(|b| b.iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EventKind, KeyValue};
    use bytes::Bytes;

    fn event(revision: u64) -> Arc<WatchEvent> {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::new(),
            create_revision: Revision(1),
            mod_revision: Revision(revision),
            version: 1,
            lease: None,
        };
        Arc::new(WatchEvent {
            kind: EventKind::Put,
            kv: Arc::new(kv),
            prev: None,
        })
    }

    #[test]
    fn finds_by_revision_after_dropping() {
        let mut history = History::default();
        for revision in 2..2000 {
            history.push(event(revision));
        }
        for _ in 0..700 {
            history.pop_front();
        }
        let copy = history.clone();
        history.push(event(2000));
        let revisions = |h: &History, from| {
            h.since(Revision(from))
                .map(|e| e.revision().0)
                .collect::<Vec<_>>()
        };
        assert_eq!(revisions(&history, 0), (702..=2000).collect::<Vec<_>>());
        assert_eq!(revisions(&history, 1024), (1024..=2000).collect::<Vec<_>>());
        assert_eq!(revisions(&history, 2000), [2000]);
        assert_eq!(revisions(&history, 2001), Vec::<u64>::new());
        assert_eq!(revisions(&copy, 1998), [1998, 1999]);
        assert_eq!(history.len(), 1299);
        assert_eq!(history.front().map(|e| e.revision()), Some(Revision(702)));
    }
}
