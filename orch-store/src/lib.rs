//! The cluster store: one trait with etcd's contract, several backends, a test kit.
