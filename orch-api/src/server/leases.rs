//! Store leases for objects that expire. Keys written close together share one, as upstream's do.

use super::ApiServer;
use orch_core::clock::Monotonic;
use orch_store::{Error, LeaseId};
use std::{collections::BTreeMap, time::Duration};

/// For how long a lease takes more keys.
const REUSE: Duration = Duration::from_secs(60);
/// How many keys a lease takes at most.
const KEYS_MAX: u32 = 1_000;

struct Open {
    lease: LeaseId,
    until: Monotonic,
    keys: u32,
}

/// The leases that still take keys, by time to live.
#[derive(Default)]
pub(super) struct LeasePool(tokio::sync::Mutex<BTreeMap<Duration, Open>>);

impl ApiServer {
    /// A lease that ends `ttl` from now, or up to a minute later.
    pub(crate) async fn lease(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let mut open = self.inner.leases.0.lock().await;
        let now = self.env().clock.monotonic();
        if let Some(held) = open.get_mut(&ttl)
            && held.until > now
            && held.keys < KEYS_MAX
        {
            held.keys += 1;
            return Ok(held.lease);
        }
        let lease = self.store().leases().grant(ttl + REUSE).await?;
        open.insert(
            ttl,
            Open {
                lease,
                until: now + REUSE,
                keys: 1,
            },
        );
        Ok(lease)
    }
}
