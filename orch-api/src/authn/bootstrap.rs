//! Bootstrap tokens: `ID.SECRET`, kept as Secrets in `kube-system`, with which a node joins
//! (<https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>).

use crate::tokens::ObjectLookup;
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use orch_core::{Object, UserInfo};
use ring::digest::{SHA256, digest};
use serde_json::Value;

/// Splits a token into its id (6 characters) and secret (16), both of `[a-z0-9]`.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// The user `system:bootstrap:ID` if the token is kept, enabled for authentication and not expired.
pub(super) async fn authenticate(
    objects: &dyn ObjectLookup,
    token: &str,
    now: Timestamp,
) -> Option<UserInfo> {
    let (id, secret) = parts(token)?;
    let kept = objects
        .lookup("secrets", "kube-system", &format!("bootstrap-token-{id}"))
        .await
        .ok()?;
    judge(&kept, id, secret, now)
}

fn judge(kept: &Object, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let text = |pointer: &str| kept.value().pointer(pointer).and_then(Value::as_str);
    let data = |key: &str| {
        let bytes = BASE64_STANDARD.decode(text(&format!("/data/{key}"))?).ok()?;
        String::from_utf8(bytes).ok()
    };
    if text("/type") != Some("bootstrap.kubernetes.io/token") || text("/metadata/deletionTimestamp").is_some()
    {
        return None;
    }
    // Digests are compared, so that the time taken says nothing about how much of the secret was right.
    let expected = data("token-secret")?;
    if data("token-id")? != id
        || digest(&SHA256, expected.as_bytes()).as_ref() != digest(&SHA256, secret.as_bytes()).as_ref()
        || data("usage-bootstrap-authentication").as_deref() != Some("true")
    {
        return None;
    }
    if let Some(end) = data("expiration")
        && end.parse::<Timestamp>().ok().is_none_or(|end| end <= now)
    {
        return None;
    }
    let mut groups = vec!["system:bootstrappers".to_owned()];
    for group in data("auth-extra-groups")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|g| !g.is_empty())
    {
        let valid = group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
            rest.len() <= 55
                && rest
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b":-".contains(&b))
                && rest.ends_with(|c: char| c.is_ascii_alphanumeric())
        });
        if !valid {
            // As upstream: a malformed group list makes the whole token useless, rather than weaker than meant.
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.push("system:authenticated".into());
    Some(UserInfo {
        username: format!("system:bootstrap:{id}"),
        groups,
        ..UserInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(change: impl FnOnce(&mut Value), secret: &str, accepted: bool) {
        let encode = |s: &str| BASE64_STANDARD.encode(s);
        let mut value = json!({"type": "bootstrap.kubernetes.io/token", "metadata": {}, "data": {
            "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
            "usage-bootstrap-authentication": encode("true"),
            "expiration": encode("2026-06-02T00:00:00Z"),
            "auth-extra-groups": encode("system:bootstrappers:kubeadm:default-node-token"),
        }});
        change(&mut value);
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        assert_eq!(
            judge(&Object::from_value(value), "abcdef", secret, now).is_some(),
            accepted
        );
    }

    #[test]
    fn only_a_kept_live_enabled_token_is_accepted() {
        let good = "0123456789abcdef";
        let encode = |s: &str| Value::from(BASE64_STANDARD.encode(s));
        check(|_| (), good, true);
        check(|_| (), "0123456789abcdee", false);
        check(|v| v["type"] = "Opaque".into(), good, false);
        check(
            |v| v["data"]["expiration"] = encode("2026-05-01T00:00:00Z"),
            good,
            false,
        );
        check(|v| v["data"]["expiration"] = encode("soon"), good, false);
        check(
            |v| v["data"]["usage-bootstrap-authentication"] = encode("false"),
            good,
            false,
        );
        check(
            |v| v["data"]["auth-extra-groups"] = encode("system:masters"),
            good,
            false,
        );
        check(
            |v| v["metadata"]["deletionTimestamp"] = "2026-05-01T00:00:00Z".into(),
            good,
            false,
        );
        assert!(parts("abcdef.0123456789abcdef").is_some());
        for bad in [
            "abcdef.0123456789abcde",
            "ABCDEF.0123456789abcdef",
            "a/../f.0123456789abcdef",
            "x",
        ] {
            assert!(parts(bad).is_none(), "{bad}");
        }
    }
}
