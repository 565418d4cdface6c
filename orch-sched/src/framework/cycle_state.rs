//! What plugins of one scheduling cycle tell each other.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    sync::Arc,
};

/// Typed values that live for one scheduling cycle of one pod: a plugin writes in `PreFilter` what it reads in
/// `Filter` and `Score`. One value per type.
#[derive(Default, Clone)]
pub struct CycleState(BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl CycleState {
    /// Stores a value, replacing one of the same type.
    pub fn put<T: Any + Send + Sync>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    /// The value of a type, if one was stored.
    #[must_use]
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>()).and_then(|v| v.downcast_ref())
    }
}

impl std::fmt::Debug for CycleState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CycleState({})", self.0.len())
    }
}
