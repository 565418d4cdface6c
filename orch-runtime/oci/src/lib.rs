//! Embedded container runtime: OCI images, overlay root file systems, no daemon.
