//! Subresources with a kind of their own.

pub(crate) mod binding;
mod eviction;
mod scale;

use super::Scope;
use crate::server::not_served;
use orch_core::{
    Status,
    client::{ApiRequest, ApiResponse},
};

impl Scope<'_> {
    /// Answers for a subresource that is not a view of the object.
    pub(crate) async fn answer_subresource(&self, request: ApiRequest) -> Result<ApiResponse, Status> {
        match self.info.subresource.as_str() {
            "scale" => self.answer_scale(request).await,
            "binding" if self.resource.gvk.kind == "Pod" => self.answer_binding(request).await,
            "eviction" if self.resource.gvk.kind == "Pod" => self.answer_eviction(request).await,
            _ => Err(not_served()),
        }
    }
}
