//! Who asks for what: the surroundings of one request to one resource.

use super::Resource;
use crate::server::{ApiServer, RequestInfo};
use http::header;
use jiff::Timestamp;
use orch_core::{Env, Status, UserInfo, client::ApiRequest, status::StatusReason};
use parking_lot::Mutex;
use std::sync::Arc;

/// Longest name of a field manager, in bytes.
const MANAGER_MAX: usize = 128;

/// The surroundings of one request.
pub(crate) struct Scope<'a> {
    /// The server.
    pub(crate) server: &'a ApiServer,
    /// Who asks.
    pub(crate) user: &'a UserInfo,
    /// The request taken apart.
    pub(crate) info: &'a RequestInfo,
    /// The resource.
    pub(crate) resource: Arc<Resource>,
    /// Product name of the client, which owns fields if no field manager is named.
    user_agent: String,
    warnings: Mutex<Vec<String>>,
}

impl<'a> Scope<'a> {
    /// The surroundings of `request`.
    pub(crate) fn new(
        server: &'a ApiServer,
        user: &'a UserInfo,
        info: &'a RequestInfo,
        resource: Arc<Resource>,
        request: &ApiRequest,
    ) -> Self {
        let agent = request
            .headers
            .get(header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("unknown");
        let mut product = String::new();
        for c in agent
            .split('/')
            .next()
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_control())
        {
            if product.len() + c.len_utf8() > MANAGER_MAX {
                break;
            }
            product.push(c);
        }
        Self {
            server,
            user,
            info,
            resource,
            user_agent: product,
            warnings: Mutex::default(),
        }
    }

    /// The server's handles.
    pub(crate) fn env(&self) -> &Env {
        self.server.env()
    }

    /// Wall time, for metadata.
    pub(crate) fn now(&self) -> Timestamp {
        self.server.env().clock.now()
    }

    /// The namespace of the request, empty for cluster-scoped resources.
    pub(crate) fn namespace(&self) -> &str {
        if self.resource.served.namespaced {
            &self.info.namespace
        } else {
            ""
        }
    }

    /// The field manager: the one named, or else the client's product name.
    pub(crate) fn manager<'b>(&'b self, named: &'b str) -> &'b str {
        if named.is_empty() { &self.user_agent } else { named }
    }

    /// Adds a warning to the answer, once.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Takes the warnings for the answer.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock())
    }

    /// `pods "a" not found`
    pub(crate) fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.resource.group_resource, name)
    }
}

impl crate::admission::Warnings for Scope<'_> {
    fn warn(&self, text: String) {
        Scope::warn(self, text);
    }
}

/// The status of a store failure.
pub(crate) fn store_status(error: &orch_store::Error) -> Status {
    use orch_store::Error;
    match error {
        Error::TooLarge { what, size, limit } => {
            let _ = (what, size, limit);
            let mut status = Status::new(
                StatusReason::RequestEntityTooLarge,
                "etcdserver: request is too large",
            );
            status.code = 413;
            status
        }
        Error::Unavailable { reason } => Status::unavailable(format!("the store is unavailable: {reason}")),
        Error::Uncertain { reason } => Status::new(
            StatusReason::Timeout,
            format!("the outcome of the write is unknown: {reason}"),
        ),
        Error::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        Error::FutureRevision { asked, current } => too_large(asked.0, current.0),
        other => Status::internal(other),
    }
}

/// The 504 of a resource version that has not happened yet.
pub(crate) fn too_large(asked: u64, current: u64) -> Status {
    use orch_core::status::{StatusCause, StatusDetails};
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    let cause = StatusCause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    let details = StatusDetails {
        causes: vec![cause],
        retry_after_seconds: 1,
        ..StatusDetails::default()
    };
    Status::new(StatusReason::Timeout, message).with_details(details)
}
