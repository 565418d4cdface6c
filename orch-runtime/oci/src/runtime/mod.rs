//! The runtime: sandboxes and containers of a data directory, over shims and the image store.
//!
//! ```text
//! <data>/images/            the image store
//! <data>/sandboxes/<id>/    see `sandbox`
//! <data>/containers/<id>/   container.json, the bundle, the writable layer, the shim's files
//! ```
//!
//! Everything is on disk before it is acknowledged; opening a directory adopts what lives there.

mod adopt;
mod client;
mod container;
mod containers;
mod images;
mod launch;
mod observe;
mod sandboxes;
mod sessions;
mod streams;
mod teardown;

pub use teardown::teardown;

use crate::cgroup::Hierarchy;
use crate::error::{Attempt, Error, Result};
use crate::image::ImageStore;
use crate::sandbox::Sandbox;
use crate::shim::protocol::OciBackend;
use container::Container;
use futures::future::BoxFuture;
use orch_core::Env;
use orch_runtime::runtime::{self as seam, RuntimeError, RuntimeEvent};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{broadcast, oneshot};

/// How many events a slow subscriber may fall behind.
const EVENTS: usize = 1024;

/// This program, whatever happened to its file since it was started.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What an [`OciRuntime`] is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Directory for everything; made if missing. On a file system that can hold the upper side of an overlay.
    pub data_dir: PathBuf,
    /// Who makes containers out of bundles.
    pub backend: OciBackend,
    /// Program to run as shim; it must call [`crate::shim_main_if_requested`] first. By default this program itself.
    pub shim: PathBuf,
}

impl Config {
    /// The embedded backend, this program as shim.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            backend: OciBackend::default(),
            shim: OWN_PROGRAM.into(),
        }
    }
}

/// The embedded container runtime. Cheap to clone.
///
/// Implements [`seam::Runtime`]. Containers and their shims outlive it and the process; opening the same directory
/// again finds them.
#[derive(Clone)]
pub struct OciRuntime(Arc<Inner>);

struct Inner {
    env: Env,
    config: Config,
    images: Arc<ImageStore>,
    hierarchy: Hierarchy,
    state: Mutex<State>,
    events: broadcast::Sender<RuntimeEvent>,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Arc<Container>>,
    /// Identities that are being made.
    sandboxes_in_making: std::collections::BTreeSet<seam::PodIdentity>,
    containers_in_making: std::collections::BTreeSet<(String, String, u32)>,
}

impl OciRuntime {
    /// Opens a data directory and adopts the sandboxes and containers in it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] in one sentence if the process lacks what containers need; [`Error::Io`].
    pub async fn open(env: Env, config: Config) -> Result<Self> {
        check_privileges()?;
        if config.shim == Path::new(OWN_PROGRAM) && !crate::shim::is_ready() {
            let reason = "this program must call orch_oci::shim_main_if_requested() first in main, or name a shim program";
            return Err(Error::Unsupported {
                reason: reason.into(),
            });
        }
        let mut config = config;
        std::fs::create_dir_all(&config.data_dir).at("create", &config.data_dir)?;
        config.data_dir = config.data_dir.canonicalize().at("resolve", &config.data_dir)?;
        for sub in ["images", "sandboxes", "containers"] {
            let dir = config.data_dir.join(sub);
            std::fs::create_dir_all(&dir).at("create", &dir)?;
            // Environments of pods stand in there, and programs of images that run as root for whoever runs them.
            let mode = rustix::fs::Mode::from_raw_mode(0o700);
            rustix::fs::chmod(&dir, mode).at("set the rights of", &dir)?;
        }
        let images = Arc::new(ImageStore::open(config.data_dir.join("images"))?);
        let runtime = Self(Arc::new(Inner {
            env,
            images,
            hierarchy: Hierarchy::detect()?,
            state: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
            config,
        }));
        runtime.adopt().await?;
        Ok(runtime)
    }

    /// The image store, for building images and importing them at start.
    #[must_use]
    pub fn image_store(&self) -> Arc<ImageStore> {
        self.0.images.clone()
    }

    /// Runs something that blocks on a thread for it.
    async fn blocking<T: Send + 'static>(
        &self,
        task: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tx, rx) = oneshot::channel();
        self.0.env.spawner.spawn_blocking(Box::new(move || {
            // Nobody waits any more for a call that was given up.
            let _ = tx.send(task());
        }));
        rx.await.unwrap_or_else(|_| {
            Err(Error::Unsupported {
                reason: "the executor is shutting down".into(),
            })
        })
    }

    /// Runs something to its end even if the caller goes away.
    async fn through<T: Send + 'static>(
        &self,
        name: &str,
        task: BoxFuture<'static, seam::Result<T>>,
    ) -> seam::Result<T> {
        let (tx, rx) = oneshot::channel();
        let task = Box::pin(async move {
            let _ = tx.send(task.await);
        });
        self.0.env.spawner.spawn(name, task);
        let gone = || RuntimeError::Unavailable {
            reason: "the executor is shutting down".into(),
            source: None,
        };
        rx.await.unwrap_or_else(|_| Err(gone()))
    }

    fn emit(&self, event: RuntimeEvent) {
        // Without subscribers there is nobody to tell.
        let _ = self.0.events.send(event);
    }

    fn container(&self, id: &str) -> Option<Arc<Container>> {
        self.0.state.lock().containers.get(id).cloned()
    }

    fn sandbox(&self, id: &str) -> Option<Sandbox> {
        self.0.state.lock().sandboxes.get(id).cloned()
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.0.config.data_dir.join("containers").join(id)
    }

    fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.0.config.data_dir.join("sandboxes").join(id)
    }

    /// A fresh ID of 128 random bits.
    fn new_id(&self) -> String {
        self.0.env.rng.uuid().replace('-', "")
    }
}

impl std::fmt::Debug for OciRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OciRuntime({})", self.0.config.data_dir.display())
    }
}

/// The control group above those of a data directory's pods: the same for the same directory.
fn cgroup_root(data_dir: &Path) -> String {
    use sha2::Digest;
    use std::os::unix::ffi::OsStrExt;
    let hash = sha2::Sha256::digest(data_dir.as_os_str().as_bytes());
    format!(
        "orch-{:02x}{:02x}{:02x}{:02x}",
        hash[0], hash[1], hash[2], hash[3]
    )
}

/// Says in one sentence what is missing for running containers.
fn check_privileges() -> Result<()> {
    use rustix::thread::CapabilitySet;
    let unsupported = |reason: String| Err(Error::Unsupported { reason });
    let needed = [
        (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (CapabilitySet::SYS_CHROOT, "CAP_SYS_CHROOT"),
        (CapabilitySet::CHOWN, "CAP_CHOWN"),
        (CapabilitySet::SETUID, "CAP_SETUID"),
        (CapabilitySet::SETGID, "CAP_SETGID"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::KILL, "CAP_KILL"),
        (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    ];
    let held = rustix::thread::capabilities(None)
        .map(|c| c.effective)
        .unwrap_or(CapabilitySet::empty());
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(c, _)| !held.contains(*c))
        .map(|(_, name)| *name)
        .collect();
    if !rustix::process::geteuid().is_root() || !missing.is_empty() {
        let reason = if missing.is_empty() {
            "running containers without a daemon needs the root user".to_owned()
        } else {
            format!(
                "running containers without a daemon needs root, and the process lacks {}",
                missing.join(", ")
            )
        };
        return unsupported(reason);
    }
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.split_whitespace().any(|f| f == "overlay") && !Path::new("/sys/module/overlay").exists() {
        // The module may still be loadable: mounting would load it.
        tracing::warn!("the kernel does not list the overlay file system");
    }
    Ok(())
}
