//! Reconcile loops of the Orch orchestration SDK.
