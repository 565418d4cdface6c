//! Reading request paths.

use crate::{GroupVersionResource, Status, status::StatusReason};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) gvr: GroupVersionResource,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) subresource: String,
}

impl Target {
    pub(super) fn parse(path: &str) -> Result<Self, Status> {
        let unknown = || {
            Status::new(
                StatusReason::NotFound,
                "the server could not find the requested resource",
            )
        };
        let mut parts = path
            .trim_matches('/')
            .split('/')
            .collect::<Vec<_>>()
            .into_iter()
            .peekable();
        let group = match parts.next() {
            Some("api") => "",
            Some("apis") => parts.next().ok_or_else(unknown)?,
            _ => return Err(unknown()),
        };
        let version = parts.next().ok_or_else(unknown)?;
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest[..] {
            ["namespaces", namespace, ref more @ ..] if more.len() > 1 || is_collection(more) => {
                (namespace, more)
            }
            _ => ("", &rest[..]),
        };
        let resource = rest
            .first()
            .copied()
            .filter(|r| !r.is_empty())
            .ok_or_else(unknown)?;
        Ok(Self {
            gvr: GroupVersionResource::new(group, version, resource),
            namespace: namespace.into(),
            name: rest.get(1).copied().unwrap_or_default().into(),
            subresource: rest.get(2).copied().unwrap_or_default().into(),
        })
    }

    /// The key of the collection in the store: versions share it.
    pub(super) fn collection(&self) -> String {
        if self.gvr.group.is_empty() {
            self.gvr.resource.clone()
        } else {
            format!("{}/{}", self.gvr.group, self.gvr.resource)
        }
    }
}

/// After `namespaces/NAME`, one more part is a collection unless it is a subresource of the namespace itself.
fn is_collection(rest: &[&str]) -> bool {
    rest.len() == 1 && !matches!(rest[0], "status" | "finalize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, collection, namespace, name, sub) in [
            ("/api/v1/pods", "pods", "", "", ""),
            ("/api/v1/namespaces/a/pods/b/status", "pods", "a", "b", "status"),
            (
                "/apis/apps/v1/namespaces/a/deployments",
                "apps/deployments",
                "a",
                "",
                "",
            ),
            ("/api/v1/namespaces", "namespaces", "", "", ""),
            ("/api/v1/namespaces/a", "namespaces", "", "a", ""),
            ("/api/v1/namespaces/a/finalize", "namespaces", "", "a", "finalize"),
            ("/api/v1/nodes/n", "nodes", "", "n", ""),
        ] {
            let t = Target::parse(path).unwrap();
            assert_eq!(
                (
                    t.collection().as_str(),
                    t.namespace.as_str(),
                    t.name.as_str(),
                    t.subresource.as_str()
                ),
                (collection, namespace, name, sub),
                "{path}"
            );
        }
        assert!(Target::parse("/healthz").is_err());
    }
}
