//! `/version`.

use super::raw;
use crate::server::{ApiServer, RawEndpoint};
use async_trait::async_trait;
use orch_core::{
    Status, UserInfo,
    client::{ApiRequest, ApiResponse},
};
use serde_json::json;

/// The version of Kubernetes that is served, marked as this implementation's.
pub const GIT_VERSION: &str = "v1.36.2+orch";

/// Serves `/version` (`version.Info`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Version;

#[async_trait]
impl RawEndpoint for Version {
    async fn call(&self, _: &ApiServer, _: &UserInfo, _: ApiRequest) -> Result<ApiResponse, Status> {
        let info = json!({
            "major": "1",
            "minor": "36",
            "emulationMajor": "1",
            "emulationMinor": "36",
            "minCompatibilityMajor": "1",
            "minCompatibilityMinor": "35",
            "gitVersion": GIT_VERSION,
            "gitCommit": env!("CARGO_PKG_VERSION"),
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, go_arch()),
        });
        Ok(raw("application/json", info.to_string()))
    }
}

/// The machine's architecture as Go names it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
