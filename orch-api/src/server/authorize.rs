//! Impersonation and authorization of a request that was taken apart.

use super::{ApiServer, RequestInfo};
use crate::authz::{Attributes, Decision};
use http::HeaderMap;
use orch_core::{GroupResource, Status, UserInfo, client::ApiRequest, status::StatusReason};
use std::borrow::Cow;

const MASTERS: &str = "system:masters";

impl ApiServer {
    /// Asks the authorizer, after the group that may do everything.
    pub async fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(MASTERS) {
            return Decision::Allow(String::new());
        }
        self.inner.authorizer.authorize(attributes).await
    }

    /// Impersonates if asked to, then authorizes; gives the user to go on as.
    pub(super) async fn admit_user<'a>(
        &self,
        user: &'a UserInfo,
        info: &RequestInfo,
        request: &ApiRequest,
    ) -> Result<Cow<'a, UserInfo>, Status> {
        let user = self.impersonate(user, &request.headers).await?;
        let query = |name: &str| match info.verb.as_str() {
            "list" | "watch" | "deletecollection" => request.query_value(name).unwrap_or_default(),
            _ => "",
        };
        let attributes = Attributes {
            user: &user,
            verb: &info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            resource_request: info.resource_request,
            field_selector: query("fieldSelector"),
            label_selector: query("labelSelector"),
        };
        match self.decide(&attributes).await {
            Decision::Allow(_) => Ok(user),
            denied => Err(forbidden(&attributes, denied.reason())),
        }
    }

    async fn impersonate<'a>(
        &self,
        user: &'a UserInfo,
        headers: &HeaderMap,
    ) -> Result<Cow<'a, UserInfo>, Status> {
        let asked = Impersonation::of(headers)?;
        let Some(asked) = asked else {
            return Ok(Cow::Borrowed(user));
        };
        for check in asked.checks() {
            let attributes = Attributes {
                user,
                verb: "impersonate",
                group: check.group,
                version: "v1",
                resource: check.resource,
                subresource: &check.subresource,
                namespace: &check.namespace,
                name: &check.name,
                path: "",
                resource_request: true,
                field_selector: "",
                label_selector: "",
            };
            let decision = self.decide(&attributes).await;
            if !decision.allowed() {
                return Err(forbidden(&attributes, decision.reason()));
            }
        }
        Ok(Cow::Owned(asked.into_user()))
    }
}

/// The 403 of a refused request, with upstream's text.
#[must_use]
pub(crate) fn forbidden(a: &Attributes<'_>, reason: &str) -> Status {
    let message = if a.resource_request {
        let mut resource = a.resource.to_owned();
        if !a.subresource.is_empty() {
            resource = format!("{resource}/{}", a.subresource);
        }
        let at = if a.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", a.namespace)
        };
        format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {at}",
            a.user.username, a.verb, a.group
        )
    } else {
        format!("User {:?} cannot {} path {:?}", a.user.username, a.verb, a.path)
    };
    let mut message = message
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    Status::forbidden(
        &GroupResource {
            group: a.group.into(),
            resource: a.resource.into(),
        },
        a.name,
        message,
    )
}

struct Check {
    group: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Debug, Default)]
struct Impersonation {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        const EXTRA: &str = "impersonate-extra-";
        if !headers.keys().any(|k| k.as_str().starts_with("impersonate-")) {
            return Ok(None);
        }
        let texts = |name: &str| -> Vec<String> {
            headers
                .get_all(name)
                .iter()
                .filter_map(|v| v.to_str().ok())
                .map(ToOwned::to_owned)
                .collect()
        };
        let mut found = Self {
            user: texts("impersonate-user").into_iter().next().unwrap_or_default(),
            uid: texts("impersonate-uid").into_iter().next().unwrap_or_default(),
            groups: texts("impersonate-group"),
            ..Self::default()
        };
        for key in headers.keys().filter(|k| k.as_str().starts_with(EXTRA)) {
            let name = percent_decode(&key.as_str()[EXTRA.len()..]);
            found.extra.insert(name, texts(key.as_str()));
        }
        if found.user.is_empty() {
            if found.groups.is_empty() && found.extra.is_empty() && found.uid.is_empty() {
                return Ok(None);
            }
            let said = if found.uid.is_empty() {
                "requested impersonation-extra or impersonation-group without impersonating a user"
            } else {
                "requested impersonation-uid without impersonating a user"
            };
            return Err(Status::new(
                StatusReason::InternalError,
                format!("Internal Server Error: {said}"),
            ));
        }
        Ok(Some(found))
    }

    fn checks(&self) -> Vec<Check> {
        let check = |group, resource, subresource: &str, namespace: &str, name: &str| Check {
            group,
            resource,
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        const AUTHENTICATION: &str = "authentication.k8s.io";
        let mut checks = vec![match service_account(&self.user) {
            Some((namespace, name)) => check("", "serviceaccounts", "", namespace, name),
            None => check("", "users", "", "", &self.user),
        }];
        checks.extend(self.groups.iter().map(|g| check("", "groups", "", "", g)));
        for (key, values) in &self.extra {
            checks.extend(
                values
                    .iter()
                    .map(|v| check(AUTHENTICATION, "userextras", key, "", v)),
            );
        }
        if !self.uid.is_empty() {
            checks.push(check(AUTHENTICATION, "uids", "", "", &self.uid));
        }
        checks
    }

    fn into_user(self) -> UserInfo {
        let Self {
            user,
            uid,
            mut groups,
            extra,
        } = self;
        if groups.is_empty()
            && let Some((namespace, _)) = service_account(&user)
        {
            groups = vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{namespace}"),
            ];
        }
        let implied = if user == "system:anonymous" {
            "system:unauthenticated"
        } else {
            "system:authenticated"
        };
        let known = |g: &String| g == "system:authenticated" || g == "system:unauthenticated";
        if !groups.iter().any(known) {
            groups.push(implied.into());
        }
        UserInfo {
            username: user,
            uid,
            groups,
            extra,
        }
    }
}

/// Namespace and name of a service account's user name.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |b: u8| char::from(b).to_digit(16);
        if bytes[i] == b'%'
            && let (Some(h), Some(l)) = (
                bytes.get(i + 1).copied().and_then(hex),
                bytes.get(i + 2).copied().and_then(hex),
            )
        {
            out.push((h * 16 + l) as u8);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let user = UserInfo::new("x", &[]);
        let mut a = Attributes {
            user: &user,
            verb: "list",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: "y",
            name: "",
            path: "/api/v1/namespaces/y/pods",
            resource_request: true,
            field_selector: "",
            label_selector: "",
        };
        let text =
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y""#;
        assert_eq!(forbidden(&a, "").message, text);
        (a.namespace, a.subresource, a.name) = ("", "status", "n");
        let text = r#"pods "n" is forbidden: User "x" cannot list resource "pods/status" in API group "" at the cluster scope: no"#;
        assert_eq!(forbidden(&a, "no").message, text);
        (a.resource_request, a.resource, a.name, a.verb, a.path) = (false, "", "", "get", "/x");
        assert_eq!(
            forbidden(&a, "").message,
            r#"forbidden: User "x" cannot get path "/x""#
        );
    }

    #[test]
    fn service_accounts_get_their_groups() {
        let asked = Impersonation {
            user: "system:serviceaccount:ns:sa".into(),
            ..Impersonation::default()
        };
        assert_eq!(asked.checks()[0].resource, "serviceaccounts");
        let groups = asked.into_user().groups;
        assert_eq!(
            groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
    }
}
