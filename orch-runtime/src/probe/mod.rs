//! Probes of containers: what they ask (exec, HTTP, TCP, gRPC), when, and what counts.

mod grpc;
mod http;
mod net;
mod results;
mod sim;
mod target;
mod tracker;
mod worker;

pub use net::NetProbes;
pub use results::{ContainerProbes, ProbeKind, ProbeResults};
pub use sim::SimProbes;
pub use target::{HttpTarget, http_target, port_of};
pub use tracker::Tracker;
pub use worker::{ProbeSet, ProbeTarget};

use async_trait::async_trait;
use std::time::Duration;

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is well.
    Success,
    /// It is well, with something to say about it.
    Warning(String),
    /// It is not well, and why.
    Failure(String),
    /// The probe itself went wrong; it says nothing about the container.
    Error(String),
}

/// Whom a network probe is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the container.
    pub container: String,
}

/// Carries out network probes and HTTP hooks. The real one opens connections; a simulated one knows the answers.
#[async_trait]
pub trait ProbeTransport: Send + Sync + 'static {
    /// A GET. Success is a status from 200 to 399.
    async fn http(&self, subject: &Subject, target: &HttpTarget, timeout: Duration) -> Outcome;
    /// Opens a connection.
    async fn tcp(&self, subject: &Subject, host: &str, port: u16, timeout: Duration) -> Outcome;
    /// Calls `grpc.health.v1.Health/Check`.
    async fn grpc(
        &self,
        subject: &Subject,
        host: &str,
        port: u16,
        service: &str,
        timeout: Duration,
    ) -> Outcome;
}
