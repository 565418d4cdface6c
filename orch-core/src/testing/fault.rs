//! A client whose server is having a bad day.

use crate::{
    Env, Status,
    client::{ApiClient, ApiRequest, ApiResponse, EventStream, Upgraded},
    status::StatusReason,
};
use async_trait::async_trait;
use futures::{StreamExt, future};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

/// Which faults happen, as probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// A request fails and has no effect.
    pub error_before: f64,
    /// A request takes effect, but its answer is lost.
    pub error_after: f64,
    /// A watch breaks at an event, which is lost with it (it comes again on resuming).
    pub watch_break: f64,
    /// Longest delay of a request.
    pub delay_max: Duration,
}

/// Puts [`Faults`] between a caller and a client.
pub struct FaultClient {
    env: Env,
    inner: Arc<dyn ApiClient>,
    faults: Arc<Mutex<Faults>>,
}

impl FaultClient {
    /// Without faults at first.
    pub fn new(env: &Env, inner: Arc<dyn ApiClient>) -> Arc<Self> {
        Arc::new(Self {
            env: env.clone(),
            inner,
            faults: Arc::default(),
        })
    }

    /// From now on, these faults. Applies to running watches too.
    pub fn set(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    fn strikes(&self, probability: f64) -> bool {
        self.env.rng.unit() < probability
    }
}

fn lost() -> Status {
    Status::new(StatusReason::ServiceUnavailable, "injected fault")
}

#[async_trait]
impl ApiClient for FaultClient {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Status> {
        let faults = *self.faults.lock();
        if !faults.delay_max.is_zero() {
            self.env
                .clock
                .sleep(faults.delay_max.mul_f64(self.env.rng.unit()))
                .await;
        }
        if self.strikes(faults.error_before) {
            return Err(lost());
        }
        let answer = self.inner.call(request).await?;
        if self.strikes(faults.error_after) {
            Err(lost())
        } else {
            Ok(answer)
        }
    }

    async fn watch(&self, request: ApiRequest) -> Result<EventStream, Status> {
        if self.strikes(self.faults.lock().error_before) {
            return Err(lost());
        }
        let events = self.inner.watch(request).await?;
        let (rng, faults) = (self.env.rng.clone(), self.faults.clone());
        let broken = events.scan(false, move |broken, event| {
            if *broken {
                return future::ready(None);
            }
            *broken = rng.unit() < faults.lock().watch_break;
            future::ready(Some(if *broken { Err(lost()) } else { event }))
        });
        Ok(broken.boxed())
    }

    async fn connect(&self, request: ApiRequest) -> Result<Upgraded, Status> {
        if self.strikes(self.faults.lock().error_before) {
            return Err(lost());
        }
        self.inner.connect(request).await
    }
}

impl std::fmt::Debug for FaultClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultClient({:?})", *self.faults.lock())
    }
}
