//! PATCH: the four formats, applied to the latest object and tried again when it changed meanwhile.

use super::{
    Scope,
    body::{self, media_type, unsupported},
    options::{FieldValidation, WriteOptions},
    update::{Edit, Updated},
};
use async_trait::async_trait;
use orch_core::{
    GroupVersionKind, Object, Status,
    client::{ApiRequest, PatchKind, RequestBody},
    status::StatusReason,
};
use orch_kinds::{
    field::{FieldErrors, Path},
    patch::{self, PatchError},
    schema,
};
use serde_json::Value;
use std::sync::Arc;

/// The format that a request's `Content-Type` names.
pub(crate) fn kind_of(request: &ApiRequest, custom: bool) -> Result<PatchKind, Status> {
    match media_type(request) {
        "application/json-patch+json" => Ok(PatchKind::Json),
        "application/merge-patch+json" => Ok(PatchKind::Merge),
        "application/strategic-merge-patch+json" if !custom => Ok(PatchKind::Strategic),
        "application/apply-patch+yaml" => Ok(PatchKind::Apply),
        other => {
            let mut supported = vec!["application/json-patch+json", "application/merge-patch+json"];
            if !custom {
                supported.push("application/strategic-merge-patch+json");
            }
            supported.push("application/apply-patch+yaml");
            Err(unsupported(other, &supported))
        }
    }
}

/// The patch document of a request, parsed, with its strict errors (duplicate fields).
fn document(request: &mut ApiRequest, kind: PatchKind) -> Result<(Value, Vec<String>), Status> {
    match std::mem::take(&mut request.body) {
        RequestBody::Value(value) => Ok((value, Vec::new())),
        RequestBody::Empty => parse(b"", kind),
        RequestBody::Bytes(bytes) if bytes.len() > body::BODY_MAX => {
            let message = format!("Request entity too large: limit is {}", body::BODY_MAX);
            Err(Status::new(StatusReason::RequestEntityTooLarge, message))
        }
        RequestBody::Bytes(bytes) => parse(&bytes, kind),
    }
}

fn parse(bytes: &[u8], kind: PatchKind) -> Result<(Value, Vec<String>), Status> {
    if kind == PatchKind::Apply && bytes.first() != Some(&b'{') {
        let decoded =
            body::yaml(bytes).map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
        return Ok((decoded, Vec::new()));
    }
    let parsed = patch::parse(bytes).map_err(|e| patch_status(&e))?;
    Ok((parsed.patch, parsed.strict))
}

/// The status of a patch that does not apply.
fn patch_status(error: &PatchError) -> Status {
    match error {
        PatchError::BadRequest(text) => Status::bad_request(text),
        PatchError::TooManyOperations { .. } => {
            Status::new(StatusReason::RequestEntityTooLarge, error.to_string())
        }
        PatchError::Unprocessable(why) => {
            tracing::debug!(why, "a patch does not fit its object");
            let message = "the server rejected our request due to an error in our request";
            Status::new(StatusReason::Invalid, message)
        }
        PatchError::Unmergeable(text) => {
            let mut status = Status::new(StatusReason::Unknown, text);
            status.code = 500;
            status
        }
    }
}

impl Scope<'_> {
    /// PATCH of an object or of one of its subresources that have the object's own kind.
    pub(crate) async fn patch(&self, request: &mut ApiRequest) -> Result<Updated, Status> {
        let kind = kind_of(request, self.resource.served.custom.is_some())?;
        let options = WriteOptions::of(request, "PatchOptions", Some(kind))?;
        let (document, strict) = document(request, kind)?;
        let prefix = if kind == PatchKind::Json {
            "json patch "
        } else {
            ""
        };
        let strict: Vec<String> = strict.into_iter().map(|e| format!("{prefix}{e}")).collect();
        let manager = self.manager(&options.field_manager).to_owned();
        let mut edit = Patching {
            kind,
            document,
            strict,
            manager,
            options: options.clone(),
        };
        self.update(&self.info.name, &mut edit, &options, kind == PatchKind::Apply)
            .await
    }
}

/// A patch about to be applied.
pub(crate) struct Patching {
    /// Its format.
    pub(crate) kind: PatchKind,
    /// The document.
    pub(crate) document: Value,
    /// Strict errors of the document itself.
    pub(crate) strict: Vec<String>,
    /// Who owns the fields.
    pub(crate) manager: String,
    /// The request's parameters.
    pub(crate) options: WriteOptions,
}

impl Patching {
    /// The patched form of `old`, any JSON document of type `ty`, decoded again.
    pub(crate) fn patched(
        &self,
        scope: &Scope<'_>,
        old: &Value,
        gvk: &GroupVersionKind,
        ty: &schema::TypeRef,
    ) -> Result<Value, Status> {
        let new = match self.kind {
            PatchKind::Json => patch::json(old, &self.document),
            PatchKind::Merge => patch::merge(old, &self.document),
            PatchKind::Strategic => patch::strategic(old, &self.document, ty),
            PatchKind::Apply => return Err(Status::internal("apply is not a patch of a document")),
        };
        let new = new.map_err(|e| patch_status(&e))?;
        let shown = if self.kind == PatchKind::Strategic {
            self.document.to_string()
        } else {
            new.to_string()
        };
        let refuse = |error: &str| {
            let mut errors = FieldErrors::new();
            errors.invalid(&Path::new("patch"), shown.as_str(), error);
            errors.into_status(&GroupVersionKind::new("", "", ""), "")
        };
        let decoded = schema::normalize(ty, new).map_err(|e| refuse(&e.to_string()))?;
        let mut strict = self.strict.clone();
        if self.options.validation != FieldValidation::Ignore {
            strict.extend(decoded.strict);
        }
        scope.strict(strict, self.options.validation, |error| refuse(error))?;
        let mut value = decoded.value;
        if let Some(map) = value.as_object_mut() {
            map.insert("kind".into(), gvk.kind.as_str().into());
            map.insert("apiVersion".into(), gvk.api_version().into());
        }
        Ok(value)
    }
}

#[async_trait]
impl Edit for Patching {
    async fn edit(&mut self, scope: &Scope<'_>, existing: Option<&Arc<Object>>) -> Result<Value, Status> {
        let resource = &scope.resource;
        if self.kind == PatchKind::Apply {
            return self.applied(scope, existing);
        }
        let Some(existing) = existing else {
            return Err(scope.not_found(&scope.info.name));
        };
        let old = existing.value();
        let mut new = self.patched(scope, old, &resource.gvk, resource.strategy.ty())?;
        resource.strategy.apply_defaults(&mut new);
        scope.own_update(old, &mut new, &self.manager);
        Ok(new)
    }
}

impl Patching {
    fn applied(&self, scope: &Scope<'_>, existing: Option<&Arc<Object>>) -> Result<Value, Status> {
        let resource = &scope.resource;
        let mut intent = self.document.clone();
        super::owners::check_applied(&intent, &resource.gvk)?;
        scope.check_namespace(&mut intent)?;
        if super::meta::text(&intent, "name").is_empty() {
            super::meta::set(&mut intent, "name", scope.info.name.as_str());
        }
        scope.check_name(&intent, &scope.info.name)?;
        let old = existing.map(|o| o.value());
        let mut new = scope.own_apply(
            old,
            &intent,
            &self.manager,
            self.options.force,
            self.options.validation,
        )?;
        scope.strict(self.strict.clone(), self.options.validation, |error| {
            Status::bad_request(format!("error strict decoding YAML: {error}"))
        })?;
        resource.strategy.apply_defaults(&mut new);
        Ok(new)
    }
}

/// For PATCH of documents that are not the object itself, such as its scale.
pub(crate) fn patching(scope: &Scope<'_>, request: &mut ApiRequest) -> Result<Patching, Status> {
    let kind = kind_of(request, false)?;
    let options = WriteOptions::of(request, "PatchOptions", Some(kind))?;
    let (document, strict) = document(request, kind)?;
    let manager = scope.manager(&options.field_manager).to_owned();
    Ok(Patching {
        kind,
        document,
        strict,
        manager,
        options,
    })
}
