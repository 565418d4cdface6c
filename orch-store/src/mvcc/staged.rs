//! Evaluating requests in order, each seeing the ones before it, before any of them is durable or visible.

use super::{Effect, LeaseChange, Mvcc};
use crate::error::Error;
use crate::store::{
    EventKind, KEY_BYTES_MAX, KeyRange, KeyValue, LeaseId, Op, OpResult, Page, Revision, TXN_BYTES_MAX,
    TXN_OPS_MAX, Txn, TxnOutcome, VALUE_BYTES_MAX, WatchEvent,
};
use bytes::Bytes;
use orch_core::rng::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Checks what can be told without the state: sizes, and that no key is written twice in a branch.
pub(crate) fn validate(txn: &Txn) -> Result<(), Error> {
    let too_large = |what, size, limit| {
        if size > limit {
            Err(Error::TooLarge { what, size, limit })
        } else {
            Ok(())
        }
    };
    let mut bytes = 0;
    let check_key = |key: &Bytes| {
        if key.is_empty() {
            return Err(Error::invalid("a key must not be empty"));
        }
        too_large("key", key.len(), KEY_BYTES_MAX)
    };
    too_large("transaction operations", txn.compare.len(), TXN_OPS_MAX)?;
    for compare in &txn.compare {
        check_key(&compare.key)?;
    }
    for branch in [&txn.success, &txn.failure] {
        too_large("transaction operations", branch.len(), TXN_OPS_MAX)?;
        for op in branch {
            if let Op::Put { key, value, .. } = op {
                check_key(key)?;
                too_large("value", value.len(), VALUE_BYTES_MAX)?;
                bytes += key.len() + value.len();
            }
        }
        check_written_once(branch)?;
    }
    too_large("transaction bytes", bytes, TXN_BYTES_MAX)
}

fn check_written_once(branch: &[Op]) -> Result<(), Error> {
    if branch.len() < 2 {
        return Ok(());
    }
    for (i, op) in branch.iter().enumerate() {
        let Op::Put { key, .. } = op else { continue };
        let again = branch.iter().enumerate().any(|(j, other)| match other {
            Op::Put { key: other, .. } => j > i && other == key,
            Op::Delete(range) => range.contains(key),
            Op::Get { .. } => false,
        });
        if again {
            let key = String::from_utf8_lossy(key);
            return Err(Error::invalid(format!(
                "key {key:?} is written twice in one transaction"
            )));
        }
    }
    Ok(())
}

/// Changes that were decided but are not published, on top of the published state.
#[derive(Debug)]
pub(crate) struct Staged<'a> {
    base: &'a Mvcc,
    keys: BTreeMap<Bytes, Option<Arc<KeyValue>>>,
    leases: BTreeMap<LeaseId, bool>,
    revision: Revision,
}

impl<'a> Staged<'a> {
    pub(crate) fn on(base: &'a Mvcc) -> Self {
        Self {
            base,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            revision: base.revision,
        }
    }

    fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        match self.keys.get(key) {
            Some(staged) => staged.as_ref(),
            None => self.base.get(key),
        }
    }

    fn lease_exists(&self, id: LeaseId) -> bool {
        self.leases
            .get(&id)
            .copied()
            .unwrap_or_else(|| self.base.leases.contains_key(&id))
    }

    /// The present keys of a range, staged ones included, in order.
    fn range(&self, range: &KeyRange) -> Vec<Arc<KeyValue>> {
        if range.is_empty() {
            return Vec::new();
        }
        if let Some(key) = range.single() {
            return self.get(key).into_iter().cloned().collect();
        }
        let frozen = self.base.freeze(range);
        let live = frozen.iter().filter_map(|(k, v)| v.latest().map(|kv| (k, kv)));
        if self.keys.is_empty() {
            return live.map(|(_, kv)| Arc::clone(kv)).collect();
        }
        let mut found: BTreeMap<&Bytes, &Arc<KeyValue>> = live.collect();
        for (key, staged) in self.keys.iter().filter(|(k, _)| range.contains(k)) {
            match staged {
                Some(kv) => found.insert(key, kv),
                None => found.remove(key),
            };
        }
        found.into_values().cloned().collect()
    }

    /// Evaluates a transaction: its answer, and its effect if it changes anything.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<(TxnOutcome, Option<Effect>), Error> {
        let succeeded = txn
            .compare
            .iter()
            .all(|c| c.holds(self.get(&c.key).map(|kv| &**kv)));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        for op in ops {
            if let Op::Put { lease: Some(id), .. } = op
                && !self.lease_exists(*id)
            {
                return Err(Error::LeaseNotFound { id: *id });
            }
        }
        let mut step = Step {
            revision: Revision(self.revision.0 + 1),
            events: Vec::new(),
        };
        let results = ops.iter().map(|op| self.op(op, &mut step)).collect();
        let effect = step.finish(self, Vec::new());
        Ok((
            TxnOutcome {
                revision: self.revision,
                succeeded,
                results,
            },
            effect,
        ))
    }

    fn op(&mut self, op: &Op, step: &mut Step) -> OpResult {
        match op {
            Op::Put { key, value, lease } => {
                let prev = self.get(key).cloned();
                let kv = Arc::new(KeyValue {
                    // One allocation holds the key for all versions.
                    key: prev.as_ref().map_or_else(|| key.clone(), |kv| kv.key.clone()),
                    value: value.clone(),
                    create_revision: prev.as_ref().map_or(step.revision, |kv| kv.create_revision),
                    mod_revision: step.revision,
                    version: prev.as_ref().map_or(0, |kv| kv.version) + 1,
                    lease: *lease,
                });
                self.keys.insert(kv.key.clone(), Some(Arc::clone(&kv)));
                step.put(Arc::clone(&kv), prev.clone());
                OpResult::Put { kv, prev }
            }
            Op::Delete(range) => {
                let deleted = self.range(range);
                for kv in &deleted {
                    self.keys.insert(kv.key.clone(), None);
                    step.delete(Arc::clone(kv));
                }
                OpResult::Delete(deleted)
            }
            Op::Get { keys, limit } => {
                let mut kvs = self.range(keys);
                let count = kvs.len() as u64;
                kvs.truncate(limit.map_or(usize::MAX, |n| n as usize));
                // Within a transaction that has written, the state read is the one at its own revision.
                let revision = if step.events.is_empty() {
                    self.revision
                } else {
                    step.revision
                };
                OpResult::Get(Page {
                    revision,
                    more: count > kvs.len() as u64,
                    kvs,
                    count,
                })
            }
        }
    }

    /// Evaluates the granting of a lease.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl: Duration) -> Effect {
        self.leases.insert(id, true);
        self.only(vec![LeaseChange::Grant(id, ttl)], None)
    }

    /// A name for a new lease. 63 random bits, as etcd has it: positive in every client's integer type.
    pub(crate) fn free_lease(&self, rng: &dyn Rng) -> LeaseId {
        loop {
            let id = LeaseId(rng.next_u64() >> 1);
            if id.0 != 0 && !self.lease_exists(id) {
                return id;
            }
        }
    }

    /// Evaluates the end of a lease: deletes its keys.
    pub(crate) fn revoke(&mut self, id: LeaseId) -> Result<Effect, Error> {
        if !self.lease_exists(id) {
            return Err(Error::LeaseNotFound { id });
        }
        let mut keys = self
            .base
            .leases
            .get(&id)
            .map(|lease| lease.keys.clone())
            .unwrap_or_default();
        keys.extend(self.keys.keys().cloned());
        let mut step = Step {
            revision: Revision(self.revision.0 + 1),
            events: Vec::new(),
        };
        for key in keys {
            if let Some(kv) = self.get(&key).filter(|kv| kv.lease == Some(id)).cloned() {
                self.keys.insert(key, None);
                step.delete(kv);
            }
        }
        self.leases.insert(id, false);
        let ended = vec![LeaseChange::End(id)];
        Ok(step
            .finish(self, ended.clone())
            .unwrap_or_else(|| self.only(ended, None)))
    }

    /// Evaluates a compaction.
    pub(crate) fn compact(&self, keep_from: Revision) -> Result<Effect, Error> {
        if keep_from > self.revision {
            return Err(Error::FutureRevision {
                asked: keep_from,
                current: self.revision,
            });
        }
        Ok(self.only(Vec::new(), Some(keep_from)))
    }

    fn only(&self, leases: Vec<LeaseChange>, floor: Option<Revision>) -> Effect {
        Effect {
            revision: self.revision,
            events: Vec::new(),
            leases,
            floor,
        }
    }
}

/// The changes of one revision.
struct Step {
    revision: Revision,
    events: Vec<Arc<WatchEvent>>,
}

impl Step {
    fn put(&mut self, kv: Arc<KeyValue>, prev: Option<Arc<KeyValue>>) {
        self.events.push(Arc::new(WatchEvent {
            kind: EventKind::Put,
            kv,
            prev,
        }));
    }

    fn delete(&mut self, prev: Arc<KeyValue>) {
        self.events.push(Arc::new(deletion(prev, self.revision)));
    }

    fn finish(self, staged: &mut Staged<'_>, leases: Vec<LeaseChange>) -> Option<Effect> {
        if self.events.is_empty() {
            return None;
        }
        staged.revision = self.revision;
        Some(Effect {
            revision: self.revision,
            events: self.events,
            leases,
            floor: None,
        })
    }
}

/// The event of a key's deletion.
pub(crate) fn deletion(prev: Arc<KeyValue>, revision: Revision) -> WatchEvent {
    let kv = KeyValue {
        key: prev.key.clone(),
        value: Bytes::new(),
        create_revision: Revision(0),
        mod_revision: revision,
        version: 0,
        lease: None,
    };
    WatchEvent {
        kind: EventKind::Delete,
        kv: Arc::new(kv),
        prev: Some(prev),
    }
}
