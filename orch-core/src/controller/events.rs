//! Events: what happened to an object, for people (`kubectl describe`, `kubectl events`).
//!
//! Recording never blocks and never fails; events are written in the background, and dropped when more than a
//! thousand wait. Repetition is folded as upstream folds it (`k8s.io/client-go/tools/record`): the same event again
//! raises its count; ten different messages of one reason within ten minutes become one combined event; an object
//! that goes on regardless is cut off after 25, then one per five minutes.

mod correlate;

use crate::{
    Api, Env, Status,
    client::{ApiClient, NamespacedOrCluster, Patch},
    clock::Clock,
    status::StatusReason,
};
use correlate::{Correlator, Verdict};
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

const QUEUE: usize = 1000;
const TRIES: u32 = 12;
const RETRY: Duration = Duration::from_secs(10);

/// `Normal` or `Warning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Nothing to worry about.
    Normal,
    /// Something is wrong.
    Warning,
}

/// Records events of one component. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    source: EventSource,
    clock: Arc<dyn Clock>,
    last_nanos: Arc<AtomicI64>,
    sender: mpsc::Sender<Box<Event>>,
}

impl EventRecorder {
    /// A recorder for `component` (such as `deployment-controller`) on `host` (a node's name, or empty). Its writer
    /// ends when the last clone is dropped and the queue is empty.
    pub fn new(env: &Env, client: Arc<dyn ApiClient>, component: &str, host: &str) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer {
            env: env.clone(),
            client,
            correlator: Correlator::default(),
        };
        env.spawner
            .spawn(&format!("events of {component}"), Box::pin(writer.run(receiver)));
        Self {
            source: EventSource {
                component: Some(component.into()),
                host: Some(host.to_owned()).filter(|h| !h.is_empty()),
            },
            clock: env.clock.clone(),
            last_nanos: Arc::new(AtomicI64::new(0)),
            sender,
        }
    }

    /// Records an event about a typed object.
    pub fn record<K: NamespacedOrCluster>(
        &self,
        about: &K,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record_reference(object_reference(about), kind, reason, message);
    }

    /// Records an event about what a reference names.
    pub fn record_reference(
        &self,
        about: ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let now = self.clock.now();
        let nanos = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
        // The name ends in the time; two events of one instant must not share it.
        let previous = self
            .last_nanos
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(nanos.max(last.saturating_add(1)))
            })
            .unwrap_or(0);
        let nanos = nanos.max(previous.saturating_add(1));
        let namespace = about
            .namespace
            .clone()
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "default".into());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(format!("{}.{nanos:x}", about.name.as_deref().unwrap_or_default())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(if kind == EventType::Normal {
                "Normal".into()
            } else {
                "Warning".into()
            }),
            reason: Some(reason.into()),
            message: Some(message.into()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            source: Some(self.source.clone()),
            reporting_component: self.source.component.clone(),
            reporting_instance: Some(self.source.host.clone().unwrap_or_default()),
            ..Event::default()
        };
        if self.sender.try_send(Box::new(event)).is_err() {
            tracing::warn!(reason, "too many events wait, one dropped");
        }
    }
}

impl std::fmt::Debug for EventRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "EventRecorder({})",
            self.source.component.as_deref().unwrap_or_default()
        )
    }
}

/// The reference by which events name an object.
#[must_use]
pub fn object_reference<K: NamespacedOrCluster>(object: &K) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(K::API_VERSION.into()),
        kind: Some(K::KIND.into()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Writer {
    env: Env,
    client: Arc<dyn ApiClient>,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut events: mpsc::Receiver<Box<Event>>) {
        while let Some(event) = events.recv().await {
            let now = self.env.clock.monotonic();
            let (verdict, key) = self.correlator.observe(*event, now);
            let event = match verdict {
                Verdict::Drop => continue,
                Verdict::Write(event) => event,
            };
            for attempt in 1..=TRIES {
                match self.write(&event).await {
                    Ok(()) => break,
                    Err(error) if is_final(&error) => {
                        tracing::debug!(%error, "event refused");
                        self.correlator.forget(&key);
                        break;
                    }
                    Err(error) => {
                        tracing::debug!(%error, attempt, "event not written");
                        let spread = if attempt == 1 { self.env.rng.unit() } else { 1.0 };
                        self.env.clock.sleep(RETRY.mul_f64(spread)).await;
                    }
                }
            }
        }
    }

    async fn write(&self, event: &Event) -> Result<(), Status> {
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if event.count.unwrap_or(1) > 1 {
            let name = event.metadata.name.as_deref().unwrap_or_default();
            let change = json!({
                "count": event.count, "message": event.message, "lastTimestamp": event.last_timestamp,
            });
            match api.patch(name, Patch::merge(change)).await {
                // It has expired: begin anew.
                Err(error) if error.is_not_found() => {}
                other => return other.map(drop),
            }
        }
        match api.create(event).await {
            Err(error) if error.is_already_exists() => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Whether the server understood and refused, so that trying again is in vain.
fn is_final(error: &Status) -> bool {
    (400..500).contains(&error.code)
        && !matches!(
            error.reason,
            StatusReason::TooManyRequests | StatusReason::Unauthorized
        )
}

#[cfg(test)]
mod tests;
