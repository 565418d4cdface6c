//! Making sure that an image is there: pull policies, pull back-off and registry credentials.

mod credentials;

pub use credentials::credentials;

use crate::{
    agent::backoff::{Backoff, BackoffLimits, elapsed, go_duration, plus},
    runtime::{Image, RegistryCredential, Runtime, RuntimeError},
};
use jiff::Timestamp;
use orch_core::clock::Clock;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc};

/// Why there is no image yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFailure {
    /// Reason as in a waiting state: `ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull`, `ImageInspectError`,
    /// `InvalidImageName`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// When trying again makes sense.
    pub retry_at: Timestamp,
}

/// Something to tell about an image: event type is a warning or not, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageNote {
    /// It is a warning.
    pub warning: bool,
    /// Reason of the event.
    pub reason: &'static str,
    /// Message of the event.
    pub message: String,
}

/// Pulls images for the pods of a node.
pub struct Images {
    runtime: Arc<dyn Runtime>,
    clock: Arc<dyn Clock>,
    limits: BackoffLimits,
    failures: Mutex<BTreeMap<(String, String), (Backoff, String)>>,
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Images")
    }
}

impl Images {
    /// Pulls through `runtime`.
    #[must_use]
    pub fn new(runtime: Arc<dyn Runtime>, clock: Arc<dyn Clock>, limits: BackoffLimits) -> Self {
        Self {
            runtime,
            clock,
            limits,
            failures: Mutex::default(),
        }
    }

    /// Forgets the back-off of a pod.
    pub fn forget(&self, pod_uid: &str) {
        self.failures.lock().retain(|(uid, _), _| uid != pod_uid);
    }

    /// The image that a container asked for, pulled if its policy (`Always`, `IfNotPresent`, `Never`) says so. `note`
    /// hears what there is to tell.
    ///
    /// # Errors
    /// [`ImageFailure`].
    pub async fn ensure(
        &self,
        pod_uid: &str,
        image: &str,
        policy: &str,
        credentials: &[RegistryCredential],
        note: &(dyn Fn(ImageNote) + Send + Sync),
    ) -> Result<Image, ImageFailure> {
        let tell = |warning, reason, message: String| {
            note(ImageNote {
                warning,
                reason,
                message,
            });
        };
        let soon = |clock: &dyn Clock| plus(clock.now(), self.limits.initial);
        let fail = |reason, message| ImageFailure {
            reason,
            message,
            retry_at: soon(&*self.clock),
        };
        let present = match self.runtime.image(image).await {
            Ok(found) => found,
            Err(RuntimeError::InvalidImageName { reason, .. }) => {
                let message = format!("Failed to apply default image tag {image:?}: {reason}");
                tell(true, "InspectFailed", message.clone());
                return Err(fail("InvalidImageName", message));
            }
            Err(error) => {
                let message = format!("Failed to inspect image {image:?}: {error}");
                tell(true, "InspectFailed", message.clone());
                return Err(fail("ImageInspectError", message));
            }
        };
        let found = |image_: Image| {
            tell(
                false,
                "Pulled",
                format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                ),
            );
            Ok(image_)
        };
        match (policy, present) {
            ("Never", None) => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                tell(true, "ErrImageNeverPull", message.clone());
                Err(fail("ErrImageNeverPull", message))
            }
            ("Always", present) => match self.pull(pod_uid, image, credentials, &tell).await {
                // Where there is no registry to ask, what is here is all there is.
                Err((true, failure)) => present.map_or(Err(failure), found),
                other => other.map_err(|(_, failure)| failure),
            },
            (_, Some(present)) => found(present),
            (_, None) => self
                .pull(pod_uid, image, credentials, &tell)
                .await
                .map_err(|(_, failure)| failure),
        }
    }

    async fn pull(
        &self,
        pod_uid: &str,
        image: &str,
        credentials: &[RegistryCredential],
        tell: &(impl Fn(bool, &'static str, String) + Sync),
    ) -> Result<Image, (bool, ImageFailure)> {
        let key = (pod_uid.to_owned(), image.to_owned());
        let started = self.clock.now();
        let waiting = self.failures.lock().get(&key).and_then(|(entry, last)| {
            let until = Backoff::until(Some(entry), entry.set_at, started, self.limits)?;
            Some((until, last.clone()))
        });
        if let Some((retry_at, last)) = waiting {
            let message = format!("Back-off pulling image {image:?}");
            tell(false, "BackOff", message.clone());
            let message = format!("{message}: {last}");
            return Err((
                false,
                ImageFailure {
                    reason: "ImagePullBackOff",
                    message,
                    retry_at,
                },
            ));
        }
        tell(false, "Pulling", format!("Pulling image {image:?}"));
        let error = match self.runtime.pull(image, credentials).await {
            Ok(pulled) => {
                self.failures.lock().remove(&key);
                let millis = elapsed(started, self.clock.now()).as_millis();
                let took = go_duration(std::time::Duration::from_millis(
                    u64::try_from(millis).unwrap_or(0),
                ));
                tell(
                    false,
                    "Pulled",
                    format!(
                        "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {} bytes.",
                        pulled.size_bytes
                    ),
                );
                return Ok(pulled);
            }
            Err(error) => error,
        };
        let message = match &error {
            RuntimeError::PullFailed { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        let unsupported = matches!(error, RuntimeError::Unsupported { .. });
        if !unsupported {
            tell(
                true,
                "Failed",
                format!("Failed to pull image {image:?}: {message}"),
            );
        }
        let now = self.clock.now();
        let mut failures = self.failures.lock();
        let before = failures.get(&key).map(|(entry, _)| *entry);
        let entry = Backoff::next(before.as_ref(), now, now, self.limits);
        failures.insert(key, (entry, format!("ErrImagePull: {message}")));
        // Soon after the failure the container is seen to be in back-off.
        let retry_at = plus(now, std::time::Duration::from_secs(2).min(entry.delay));
        Err((
            unsupported,
            ImageFailure {
                reason: "ErrImagePull",
                message,
                retry_at,
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sim::{SimOptions, SimRuntime};
    use orch_core::testing::sim_env;

    #[tokio::test(start_paused = true)]
    async fn policies_and_back_off() {
        let env = sim_env(1);
        let options = SimOptions {
            unpullable: ["bad".to_owned()].into(),
            ..SimOptions::default()
        };
        let sim = SimRuntime::new(env.clone(), options);
        sim.add_image("here:1");
        let images = Images::new(sim.clone(), env.clock.clone(), BackoffLimits::default());
        let notes = Mutex::new(Vec::new());
        let note = |n: ImageNote| notes.lock().push(n.reason);
        let ensure = async |image: &str, policy: &str| {
            let got = images.ensure("u", image, policy, &[], &note).await;
            (
                got.map(|i| i.tags[0].clone()).map_err(|f| f.reason),
                std::mem::take(&mut *notes.lock()),
            )
        };
        let ok = |s: &str| Ok(s.to_owned());
        assert_eq!(
            ensure("here:1", "IfNotPresent").await,
            (ok("here:1"), vec!["Pulled"])
        );
        assert_eq!(ensure("here:1", "Never").await, (ok("here:1"), vec!["Pulled"]));
        assert_eq!(
            ensure("here:1", "Always").await,
            (ok("here:1"), vec!["Pulling", "Pulled"])
        );
        assert_eq!(
            ensure("there:1", "Never").await,
            (Err("ErrImageNeverPull"), vec!["ErrImageNeverPull"])
        );
        assert_eq!(
            ensure("there:1", "IfNotPresent").await,
            (ok("there:1"), vec!["Pulling", "Pulled"])
        );
        assert_eq!(
            ensure("a b", "Never").await,
            (Err("InvalidImageName"), vec!["InspectFailed"])
        );
        assert_eq!(
            ensure("bad:1", "IfNotPresent").await,
            (Err("ErrImagePull"), vec!["Pulling", "Failed"])
        );
        assert_eq!(
            ensure("bad:1", "IfNotPresent").await,
            (Err("ImagePullBackOff"), vec!["BackOff"])
        );
        env.clock.sleep(std::time::Duration::from_secs(10)).await;
        assert_eq!(ensure("bad:1", "IfNotPresent").await.0, Err("ErrImagePull"));
        env.clock.sleep(std::time::Duration::from_secs(15)).await;
        assert_eq!(ensure("bad:1", "IfNotPresent").await.0, Err("ImagePullBackOff"));
    }
}
