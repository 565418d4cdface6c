//! The runtime seam: what a container runtime must do for the node agent.
//!
//! Four small traits after the semantics of CRI v1 ([`SandboxRuntime`], [`ContainerRuntime`], [`ImageService`],
//! [`Streams`]) and one that observes ([`Observe`]); [`Runtime`] bundles them and is implemented by itself for whoever
//! implements the five. Implementations: simulated ([`sim`]), embedded (`orch-oci`), CRI (`orch-cri`). All pass
//! [`crate::testing::conformance`].
//!
//! Rules for all of them:
//! - Everything survives the agent: a process that ends and starts again over the same state finds its sandboxes and
//!   containers, running ones running.
//! - The runtime restarts nothing by itself and removes nothing by itself.
//! - Methods may be called from many tasks at once, for one container too.
//! - A call whose future is dropped may have happened or not; the next `list` tells. It leaves nothing half made that
//!   `remove` or `remove_sandbox` would not clean up.

mod error;
pub mod sim;
mod spec;
mod state;
mod streams;

pub use error::RuntimeError;
pub use spec::{
    ContainerSpec, Device, Mount, PidNamespace, PodIdentity, Propagation, Resources, SandboxSpec, Seccomp,
    Security,
};
pub use state::{
    ContainerPhase, ContainerState, ContainerStats, Exit, ExitReason, Image, RuntimeEvent, RuntimeInfo,
    SandboxState,
};
pub use streams::{ExecOutput, Session, SessionReader, SessionWriter, StreamOptions, TerminalSize};

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::{fmt, path::Path, time::Duration};

/// Result of a runtime call.
pub type Result<T> = std::result::Result<T, RuntimeError>;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub String);

        impl $name {
            /// The ID as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self(id.to_owned())
            }
        }
    };
}

id_type! {
    /// ID of a sandbox, chosen by the runtime: letters, digits, `-`, `_` and `.`; unique on the machine for ever.
    SandboxId
}
id_type! {
    /// ID of a container, chosen by the runtime; as [`SandboxId`].
    ContainerId
}

/// Makes and unmakes the namespaces that the containers of a pod share.
#[async_trait]
pub trait SandboxRuntime: Send + Sync + 'static {
    /// Makes a sandbox, ready at return.
    ///
    /// # Errors
    /// `AlreadyExists` for a pod identity (with attempt) that exists; `InvalidSpec`; `Unavailable`.
    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<SandboxState>;
    /// Kills what still runs in the sandbox and gives its namespaces up. It stays listed, not ready. `Ok` when already
    /// stopped or absent. Detach the pod from its network first.
    async fn stop_sandbox(&self, id: &SandboxId) -> Result<()>;
    /// Removes the sandbox and its containers, stopping it if need be. `Ok` when absent.
    async fn remove_sandbox(&self, id: &SandboxId) -> Result<()>;
    /// All sandboxes, ready and not, by ID.
    async fn list_sandboxes(&self) -> Result<Vec<SandboxState>>;
}

/// Makes, starts, stops and lists containers.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Makes a container, not started.
    ///
    /// # Errors
    /// `ImageNotPresent`, `InvalidSpec`, `NotFound` for the sandbox, `WrongState` if the sandbox is not ready,
    /// `AlreadyExists` for a name and attempt that the sandbox has.
    async fn create(&self, sandbox: &SandboxId, spec: &ContainerSpec) -> Result<ContainerId>;
    /// Starts a created container. At return the program runs (it may have ended already).
    ///
    /// # Errors
    /// `StartFailed`, and the container is then `Exited` with code 128 and [`ExitReason::StartError`] and the same
    /// message; `WrongState` if it was started before; `NotFound`.
    async fn start(&self, id: &ContainerId) -> Result<()>;
    /// Sends the stop signal, after `grace` the kill signal, and returns when the container has ended. With zero grace
    /// it kills at once. `Ok` when not running or absent. A second call with a shorter grace shortens the first's.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()>;
    /// Removes the container, killing it if it runs. Its log file stays. `Ok` when absent.
    async fn remove(&self, id: &ContainerId) -> Result<()>;
    /// All containers, created, running and exited, by ID.
    async fn list(&self) -> Result<Vec<ContainerState>>;
    /// Changes the limits of a container that was created or runs (in-place resize).
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `InvalidSpec`, `Unsupported`.
    async fn update(&self, id: &ContainerId, resources: &Resources) -> Result<()>;
    /// Opens the log file anew by its path, after the agent has renamed the old one.
    ///
    /// # Errors
    /// `NotFound`; `WrongState` if it does not run.
    async fn reopen_log(&self, id: &ContainerId) -> Result<()>;
}

/// Keeps images. A reference is `name[:tag][@digest]`, normalized as usual (`busybox` is
/// `docker.io/library/busybox:latest`), or an image ID.
#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    /// All images, by ID.
    async fn images(&self) -> Result<Vec<Image>>;
    /// The image that a reference or ID names; `None` if it is not in the store.
    ///
    /// # Errors
    /// `InvalidImageName`, `Unavailable`.
    async fn image(&self, reference: &str) -> Result<Option<Image>>;
    /// Fetches an image from its registry. Whether to call this at all is the agent's pull policy.
    ///
    /// # Errors
    /// `PullFailed`, `InvalidImageName`, `Unavailable`; `Unsupported` if this runtime has local images only.
    async fn pull(&self, reference: &str, credentials: &[RegistryCredential]) -> Result<Image>;
    /// Takes the images of an archive (OCI layout or docker-archive, as a tar file or, for a layout, a directory) into
    /// the store and returns them. Running it again changes nothing.
    ///
    /// # Errors
    /// `InvalidSpec` if it is no such archive or is damaged; `Unavailable`.
    async fn import(&self, archive: &Path) -> Result<Vec<Image>>;
    /// Removes a name, or by ID the image with all its names. `Ok` when absent. Containers made from it keep working.
    async fn remove_image(&self, reference: &str) -> Result<()>;
}

/// Login for a registry.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct RegistryCredential {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Bearer token to show to the registry, instead of the two.
    pub registry_token: String,
    /// Token to get an access token with, instead of a password.
    pub identity_token: String,
}

impl fmt::Debug for RegistryCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredential")
    }
}

/// Interactive access to running containers and sandboxes.
#[async_trait]
pub trait Streams: Send + Sync + 'static {
    /// Runs a command in a running container with the container's environment, user and rights. Dropping the session
    /// kills the command.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` if it does not run, `StartFailed` if the program cannot be started.
    async fn exec(&self, id: &ContainerId, command: &[String], options: StreamOptions) -> Result<Session>;
    /// Runs a command without input to its end. Output beyond 16 MiB a stream is cut off.
    ///
    /// # Errors
    /// As [`Streams::exec`]; `Timeout` when `timeout` passed, and the command is then dead.
    async fn exec_sync(
        &self,
        id: &ContainerId,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecOutput>;
    /// Connects to the streams of the container's own process. Output starts with what comes now. Dropping the session
    /// leaves the container running.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` if it does not run.
    async fn attach(&self, id: &ContainerId, options: StreamOptions) -> Result<Session>;
    /// Connects to a TCP port on the loopback of the sandbox's network.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` if it is not ready, `Unavailable` if nothing listens.
    async fn port_forward(
        &self,
        sandbox: &SandboxId,
        port: u16,
    ) -> Result<Box<dyn orch_core::client::Duplex>>;
}

/// Tells what happens, so that nothing has to poll.
#[async_trait]
pub trait Observe: Send + Sync + 'static {
    /// Events from now on, in the order of happening a container. A slow subscriber gets [`RuntimeEvent::Lagged`] in
    /// place of what it missed.
    fn subscribe(&self) -> BoxStream<'static, RuntimeEvent>;
    /// Use of resources by each running container, by ID.
    async fn stats(&self) -> Result<Vec<ContainerStats>>;
    /// What the runtime is and whether it is ready.
    async fn info(&self) -> Result<RuntimeInfo>;
}

/// A whole container runtime.
pub trait Runtime: SandboxRuntime + ContainerRuntime + ImageService + Streams + Observe {}
impl<T: SandboxRuntime + ContainerRuntime + ImageService + Streams + Observe> Runtime for T {}
