//! What a request is about: verb, resource, namespace, name, subresource, read from method and path.
//!
//! Follows the request-info resolver of the API server library upstream
//! (<https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb>).

use http::Method;
use orch_core::{GroupResource, client::ApiRequest};

/// A request taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    /// Whether it is about an API resource; otherwise only `verb` and `path` are set.
    pub resource_request: bool,
    /// API verb, or the HTTP method in lower case.
    pub verb: String,
    /// Path without a trailing slash's meaning changed.
    pub path: String,
    /// Group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Namespace, empty if none.
    pub namespace: String,
    /// Resource (plural).
    pub resource: String,
    /// Subresource, empty if none.
    pub subresource: String,
    /// Object name, empty if none.
    pub name: String,
    /// Path segments after the subresource (of `proxy`).
    pub rest: String,
}

impl RequestInfo {
    /// Reads a request. Never fails: what does not look like a resource is a non-resource request.
    #[must_use]
    pub fn of(request: &ApiRequest) -> Self {
        let method_verb = request.method.as_str().to_ascii_lowercase();
        let mut info = Self {
            verb: method_verb,
            path: request.path.clone(),
            ..Self::default()
        };
        let mut parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let core = match parts.first() {
            Some(&"api") => true,
            Some(&"apis") => false,
            _ => return info,
        };
        if parts.len() < 3 || (!core && parts.len() < 4) {
            return info;
        }
        parts.remove(0);
        if !core {
            info.group = parts.remove(0).to_owned();
        }
        info.resource_request = true;
        info.version = parts.remove(0).to_owned();
        // `proxy` and `watch` as a path prefix are the old forms of today's subresource and parameter.
        if parts.first() == Some(&"watch") || (parts.first() == Some(&"proxy") && core) {
            if parts.len() < 2 {
                return info;
            }
            info.verb = parts.remove(0).to_owned();
        } else {
            info.verb = match request.method {
                Method::POST => "create",
                Method::GET | Method::HEAD => "get",
                Method::PUT => "update",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "",
            }
            .to_owned();
        }
        if parts.first() == Some(&"namespaces") && parts.len() > 1 {
            info.namespace = parts[1].to_owned();
            // `namespaces/x/status` and `/finalize` are subresources of the namespace, not resources in it.
            if parts.len() > 2 && !matches!(parts[2], "status" | "finalize") {
                parts.drain(..2);
            }
        }
        info.resource = parts.first().copied().unwrap_or_default().to_owned();
        info.name = parts.get(1).copied().unwrap_or_default().to_owned();
        if parts.len() >= 3 && info.verb != "proxy" {
            info.subresource = parts[2].to_owned();
        }
        info.rest = parts.get(3..).map(|r| r.join("/")).unwrap_or_default();
        if !info.rest.is_empty() && request.path.ends_with('/') {
            info.rest.push('/');
        }
        if info.name.is_empty() && info.verb == "get" {
            let watch = request
                .query_value("watch")
                .is_some_and(|w| !matches!(w, "false" | "0" | "f" | "F" | "False" | "FALSE"));
            info.verb = if watch { "watch" } else { "list" }.to_owned();
            if let Some(name) = request.query_value("fieldSelector").and_then(single_name) {
                info.name = name;
            }
        }
        if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection".to_owned();
        }
        info
    }

    /// Group and resource.
    #[must_use]
    pub fn group_resource(&self) -> GroupResource {
        GroupResource {
            group: self.group.clone(),
            resource: self.resource.clone(),
        }
    }

    /// The name that stands in the path, not the one that a field selector asks for.
    #[must_use]
    pub fn path_name(&self) -> &str {
        if matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") {
            ""
        } else {
            &self.name
        }
    }
}

/// The name that `metadata.name=x` alone asks for: authorization of a list may then be by name.
fn single_name(selector: &str) -> Option<String> {
    selector
        .split(',')
        .filter_map(|term| term.strip_prefix("metadata.name="))
        .map(|v| v.strip_prefix('=').unwrap_or(v))
        .find(|v| !v.is_empty() && !v.contains(['/', '%', '\\']))
        .map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, expected: (&str, &str, &str, &str, &str, &str)) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut request = ApiRequest::new(method, path);
        for (k, v) in query.split('&').filter_map(|p| p.split_once('=')) {
            request = request.param(k, v);
        }
        let i = RequestInfo::of(&request);
        let found = (
            &*i.verb,
            &*i.group,
            &*i.namespace,
            &*i.resource,
            &*i.subresource,
            &*i.name,
        );
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn paths() {
        check(
            Method::GET,
            "/api/v1/namespaces",
            ("list", "", "", "namespaces", "", ""),
        );
        check(
            Method::GET,
            "/api/v1/namespaces/other",
            ("get", "", "other", "namespaces", "", "other"),
        );
        check(
            Method::PUT,
            "/api/v1/namespaces/other/finalize",
            ("update", "", "other", "namespaces", "finalize", "other"),
        );
        check(
            Method::GET,
            "/api/v1/namespaces/other/pods",
            ("list", "", "other", "pods", "", ""),
        );
        check(
            Method::GET,
            "/api/v1/namespaces/other/pods?watch=1",
            ("watch", "", "other", "pods", "", ""),
        );
        check(
            Method::GET,
            "/api/v1/pods?fieldSelector=metadata.name=x",
            ("list", "", "", "pods", "", "x"),
        );
        check(
            Method::GET,
            "/api/v1/namespaces/other/pods/foo",
            ("get", "", "other", "pods", "", "foo"),
        );
        check(
            Method::DELETE,
            "/api/v1/namespaces/other/pods",
            ("deletecollection", "", "other", "pods", "", ""),
        );
        check(
            Method::POST,
            "/api/v1/namespaces/o/pods/foo/exec",
            ("create", "", "o", "pods", "exec", "foo"),
        );
        check(
            Method::PATCH,
            "/apis/apps/v1/namespaces/o/deployments/d/scale",
            ("patch", "apps", "o", "deployments", "scale", "d"),
        );
        check(
            Method::GET,
            "/api/v1/nodes/n/proxy/metrics/x",
            ("get", "", "", "nodes", "proxy", "n"),
        );
        check(Method::GET, "/apis/apps/v1", ("get", "", "", "", "", ""));
        check(Method::POST, "/healthz", ("post", "", "", "", "", ""));
        let rest = RequestInfo::of(&ApiRequest::get("/api/v1/nodes/n/proxy/metrics/x/")).rest;
        assert_eq!(rest, "metrics/x/");
    }
}
