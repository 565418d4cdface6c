//! Compare-and-swap of one object in the store.

use super::{Scope, resource::Resource, scope::store_status};
use crate::cache::Pending;
use bytes::Bytes;
use orch_core::{Object, Status};
use orch_store::{Compare, KeyRange, KeyValue, Op, ReadAt, Revision, Txn};
use serde_json::Value;
use std::sync::Arc;

/// What became of a write.
pub(crate) enum Written {
    /// It is stored; this is the object.
    Done(Arc<Object>),
    /// The key was not as expected; this is what is there.
    Lost(Option<Current>),
}

/// An object as the store or cache has it, in its stored version.
#[derive(Clone)]
pub(crate) struct Current {
    /// The object.
    pub(crate) object: Arc<Object>,
    /// Its revision.
    pub(crate) revision: u64,
}

impl Scope<'_> {
    /// The object as far as the cache has come.
    pub(crate) fn cached(&self, key: &str) -> Option<Current> {
        let entry = self.resource.cache.get(key)?;
        Some(Current {
            object: entry.object,
            revision: entry.revision,
        })
    }

    /// The object as the store has it now.
    pub(crate) async fn latest(&self, key: &str) -> Result<Option<Current>, Status> {
        let keys = KeyRange::key(self.resource.store_key(key));
        let page = self
            .server
            .store()
            .range(keys, ReadAt::Latest, None)
            .await
            .map_err(|e| store_status(&e))?;
        page.kvs.first().map(|kv| current(&self.resource, kv)).transpose()
    }

    /// Stores `value` (in the served version) under `key` if the key is still at `expected` (0: absent).
    pub(crate) async fn put(&self, key: &str, expected: u64, value: Value) -> Result<Written, Status> {
        let resource = &self.resource;
        let full = resource.store_key(key);
        let pending = Arc::new(Pending::new(resource.conversion.stored(value)));
        let lease = match resource.ttl {
            Some(ttl) => Some(self.server.lease(ttl).await.map_err(|e| store_status(&e))?),
            None => None,
        };
        let put = Op::Put {
            key: full.clone(),
            value: pending.bytes().clone(),
            lease,
        };
        let txn = Txn::of([put])
            .when(Compare::mod_revision(full.clone(), Revision(expected)))
            .or_else([Op::get(full.clone())])
            .durability(resource.durability);
        let announced = Announced::new(resource, &full, &pending);
        let outcome = self.server.store().txn(txn).await.map_err(|e| store_status(&e))?;
        if outcome.succeeded {
            announced.happened();
            let object = pending.object(outcome.revision.0);
            return Ok(Written::Done(resource.conversion.served(&object)));
        }
        drop(announced);
        Ok(Written::Lost(
            outcome.found().map(|kv| current(resource, kv)).transpose()?,
        ))
    }

    /// Deletes the key if it is still at `expected`. The answer is the revision of the deletion, or what is there.
    pub(crate) async fn remove(
        &self,
        key: &str,
        expected: u64,
    ) -> Result<Result<u64, Option<Current>>, Status> {
        let mut txn = Txn::delete(self.resource.store_key(key), Revision(expected));
        txn.durability = self.resource.durability;
        let outcome = self.server.store().txn(txn).await.map_err(|e| store_status(&e))?;
        if outcome.succeeded {
            return Ok(Ok(outcome.revision.0));
        }
        Ok(Err(outcome
            .found()
            .map(|kv| current(&self.resource, kv))
            .transpose()?))
    }
}

fn current(resource: &Resource, kv: &KeyValue) -> Result<Current, Status> {
    let revision = kv.mod_revision.0;
    match resource.cache.object_at(kv) {
        Some(object) => Ok(Current { object, revision }),
        None => Err(Status::internal(format!(
            "stored object {} is not JSON",
            String::from_utf8_lossy(&kv.key)
        ))),
    }
}

/// Takes an announcement back unless the write happened, also when the request is dropped half-way.
struct Announced<'a> {
    resource: &'a Resource,
    key: &'a Bytes,
    pending: &'a Arc<Pending>,
    keep: bool,
}

impl<'a> Announced<'a> {
    fn new(resource: &'a Resource, key: &'a Bytes, pending: &'a Arc<Pending>) -> Self {
        resource.cache.announce(key, pending);
        Self {
            resource,
            key,
            pending,
            keep: false,
        }
    }
    fn happened(mut self) {
        self.keep = true;
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.resource.cache.withdraw(self.key, self.pending);
        }
    }
}
