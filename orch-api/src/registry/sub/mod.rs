//! Subresources with a kind of their own.

pub(crate) mod binding;
mod eviction;
mod scale;

use super::Scope;
use crate::{
    admission::{Attributes, Operation},
    server::not_served,
};
use orch_core::{
    GroupVersionKind, Status,
    client::{ApiRequest, ApiResponse},
};
use serde_json::Value;

impl Scope<'_> {
    /// Admission of the document that is created as a subresource.
    async fn admit_document(
        &self,
        document: &mut Value,
        kind: &GroupVersionKind,
        dry_run: bool,
    ) -> Result<(), Status> {
        let base = self.attributes(
            Operation::Create,
            self.namespace(),
            &self.info.name,
            dry_run,
            None,
        );
        let attributes = Attributes { kind, ..base };
        let chain = self.server.admission();
        chain.mutate(self.server, &attributes, document).await?;
        chain.validate(self.server, &attributes, Some(document)).await
    }

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
