//! Subresources with a kind of their own.

use super::Scope;
use crate::server::not_served;
use orch_core::{
    Status,
    client::{ApiRequest, ApiResponse},
};

impl Scope<'_> {
    /// Answers for a subresource that is not a view of the object.
    pub(crate) async fn answer_subresource(&self, request: ApiRequest) -> Result<ApiResponse, Status> {
        let _ = request;
        Err(not_served())
    }
}
