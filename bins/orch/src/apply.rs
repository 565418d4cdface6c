//! Applying manifests: what `orch up -f` does for each object, by server-side apply.

use orch_core::{
    ApiClient, GroupVersion, GroupVersionResource, Status,
    client::{ApiRequest, PatchKind, ResponseBody},
};
use serde_json::Value;
use std::{path::Path, sync::Arc};

/// An object of a manifest that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Where its collection is served.
    pub gvr: GroupVersionResource,
    /// Kind.
    pub kind: String,
    /// Namespace, empty for a cluster-scoped object.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Why a manifest was not applied, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file can't be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not YAML, or not objects.
    #[error("{path}: document {document}: {message}")]
    Parse {
        /// The file.
        path: String,
        /// Which document, from 1.
        document: usize,
        /// What is wrong.
        message: String,
    },
    /// The API server refused an object; those before it are applied.
    #[error("{path}: {kind} {name:?}: {status}")]
    Refused {
        /// The file.
        path: String,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// What the server said.
        status: Status,
    },
}

/// The objects of a YAML or JSON file, `List`s taken apart.
///
/// # Errors
/// [`ApplyError::Read`] or [`ApplyError::Parse`].
pub fn read_manifest(path: &Path) -> Result<Vec<Value>, ApplyError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ApplyError::Read {
        path: shown.clone(),
        source,
    })?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true, ignore_binary_tag_for_string: true };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(&text, options).map_err(|e| ApplyError::Parse {
            path: shown.clone(),
            document: 1,
            message: e.to_string(),
        })?;
    let mut objects = Vec::new();
    for (at, document) in documents.into_iter().enumerate() {
        let wrong = |message: &str| ApplyError::Parse {
            path: shown.clone(),
            document: at + 1,
            message: message.into(),
        };
        if document.is_null() {
            continue;
        }
        let kind = document
            .get("kind")
            .and_then(Value::as_str)
            .ok_or_else(|| wrong("kind is not set"))?;
        if document.get("apiVersion").and_then(Value::as_str).is_none() {
            return Err(wrong("apiVersion is not set"));
        }
        match document.get("items").and_then(Value::as_array) {
            Some(items) if kind.ends_with("List") => objects.extend(items.iter().cloned()),
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

/// Applies the objects of a file in order.
///
/// # Errors
/// [`ApplyError`]; the objects before the failing one stay applied.
pub async fn apply_file(client: &Arc<dyn ApiClient>, path: &Path) -> Result<Vec<Applied>, ApplyError> {
    let mut applied = Vec::new();
    for object in read_manifest(path)? {
        let text = |field: &str| {
            object
                .pointer(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        let refused = |status| ApplyError::Refused {
            path: path.display().to_string(),
            kind: kind.clone(),
            name: name.clone(),
            status,
        };
        applied.push(apply(client, object.clone()).await.map_err(refused)?);
    }
    Ok(applied)
}

async fn apply(client: &Arc<dyn ApiClient>, object: Value) -> Result<Applied, Status> {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind, name) = (
        text("/apiVersion"),
        text("/kind").to_owned(),
        text("/metadata/name").to_owned(),
    );
    let bad = || Status::bad_request(format!("no matches for kind {kind:?} in version {api_version:?}"));
    let gv = GroupVersion::parse(api_version).ok_or_else(bad)?;
    let (resource, namespaced) = find_resource(client, &gv, &kind).await?.ok_or_else(bad)?;
    let namespace = match (namespaced, text("/metadata/namespace")) {
        (false, _) => String::new(),
        (true, "") => "default".to_owned(),
        (true, namespace) => namespace.to_owned(),
    };
    let gvr = GroupVersionResource::new(gv.group, gv.version, resource);
    let collection = gvr.collection_path(namespaced.then_some(namespace.as_str()));
    let mut request = ApiRequest::new(http::Method::PATCH, format!("{collection}/{name}")).value(object);
    let media_type = http::HeaderValue::from_static(PatchKind::Apply.media_type());
    request.headers.insert(http::header::CONTENT_TYPE, media_type);
    let request = request
        .param("fieldManager", "orch")
        .param("force", "true")
        .param("fieldValidation", "Strict");
    client.call(request).await?;
    Ok(Applied {
        gvr,
        kind,
        namespace,
        name,
    })
}

async fn find_resource(
    client: &Arc<dyn ApiClient>,
    gv: &GroupVersion,
    kind: &str,
) -> Result<Option<(String, bool)>, Status> {
    let path = if gv.group.is_empty() {
        format!("/api/{}", gv.version)
    } else {
        format!("/apis/{gv}")
    };
    let list = match client.call(ApiRequest::get(path)).await {
        Ok(response) => match response.body {
            ResponseBody::Raw { bytes, .. } => serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            ResponseBody::Object(object) => object.value().clone(),
            _ => Value::Null,
        },
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    let resources = list.get("resources").and_then(Value::as_array);
    let found = resources.into_iter().flatten().find(|r| {
        let name = r.get("name").and_then(Value::as_str).unwrap_or_default();
        r.get("kind").and_then(Value::as_str) == Some(kind) && !name.contains('/')
    });
    Ok(found.map(|r| {
        let name = r
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        (
            name,
            r.get("namespaced").and_then(Value::as_bool).unwrap_or(false),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Value>, ApplyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.yaml");
        std::fs::write(&path, text).unwrap();
        read_manifest(&path)
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let two = read(
            "apiVersion: v1\nkind: A\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {kind: B}\n- {kind: C}\n",
        );
        let kinds: Vec<_> = two
            .unwrap()
            .iter()
            .map(|o| o["kind"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds, ["A", "B", "C"]);
        assert_eq!(
            read("apiVersion: v1\nkind: A\nx: 0644\ny: yes\n").unwrap()[0]["x"],
            420
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, expect) in [
            ("apiVersion: v1\n", "kind is not set"),
            ("a: [", "document 1"),
            ("kind: A\n", "apiVersion"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
