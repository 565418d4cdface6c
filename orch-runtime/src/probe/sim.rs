//! Network probes of a simulated node: the `sim.orch.dev/probe` annotation of the pod answers.

use super::{HttpTarget, Outcome, ProbeTransport, Subject};
use crate::runtime::sim::SimRuntime;
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};

/// Answers for the containers of a simulated runtime: success, unless the annotation says `fail` or an HTTP status.
#[derive(Debug, Clone)]
pub struct SimProbes(pub Arc<SimRuntime>);

impl SimProbes {
    fn answer(&self, subject: &Subject) -> Outcome {
        match self
            .0
            .annotation(&subject.pod_uid, &subject.container, "probe")
            .as_deref()
        {
            Some("fail") => Outcome::Failure("connection refused".into()),
            Some(status) if status.parse::<u16>().is_ok_and(|s| !(200..400).contains(&s)) => {
                Outcome::Failure(format!("HTTP probe failed with statuscode: {status}"))
            }
            _ => Outcome::Success,
        }
    }
}

#[async_trait]
impl ProbeTransport for SimProbes {
    async fn http(&self, subject: &Subject, _: &HttpTarget, _: Duration) -> Outcome {
        self.answer(subject)
    }
    async fn tcp(&self, subject: &Subject, _: &str, _: u16, _: Duration) -> Outcome {
        self.answer(subject)
    }
    async fn grpc(&self, subject: &Subject, _: &str, _: u16, _: &str, _: Duration) -> Outcome {
        self.answer(subject)
    }
}
