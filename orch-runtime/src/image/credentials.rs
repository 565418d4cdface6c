//! Registry credentials out of a pod's `imagePullSecrets`.

use crate::runtime::RegistryCredential;
use base64::Engine;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use std::sync::Arc;

/// Credentials of `secrets` for the registry of `image`, the most specific first. Secrets that hold none are passed over.
#[must_use]
pub fn credentials(image: &str, secrets: &[Arc<Secret>]) -> Vec<RegistryCredential> {
    let name = full_name(image);
    let mut found: Vec<(usize, RegistryCredential)> = Vec::new();
    for secret in secrets {
        let data = secret.data.clone().unwrap_or_default();
        let (entries, nested) = match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => (data.get(".dockerconfigjson"), true),
            Some("kubernetes.io/dockercfg") => (data.get(".dockercfg"), false),
            _ => continue,
        };
        let Some(json) = entries.and_then(|e| serde_json::from_slice::<Value>(&e.0).ok()) else {
            continue;
        };
        let list = if nested { &json["auths"] } else { &json };
        for (place, entry) in list.as_object().into_iter().flatten() {
            let place = normalize(place);
            if matches(&place, &name)
                && let Some(credential) = parse(entry)
            {
                found.push((place.len(), credential));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, credential)| credential).collect()
}

/// Registry and repository of an image: `busybox:1` is `docker.io/library/busybox`.
fn full_name(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let name = name[slash..]
        .find(':')
        .map_or(name, |colon| &name[..slash + colon]);
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

fn normalize(place: &str) -> String {
    let place = place
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let place = place
        .trim_end_matches("/v1")
        .trim_end_matches("/v2")
        .trim_end_matches('/');
    match place.split_once('/') {
        Some(("index.docker.io" | "registry-1.docker.io", path)) => format!("docker.io/{path}"),
        None if matches!(place, "index.docker.io" | "registry-1.docker.io") => "docker.io".into(),
        _ => place.to_owned(),
    }
}

/// Whether an entry's place (a host, its labels perhaps with `*`, and perhaps the beginning of a path) covers an image.
fn matches(place: &str, name: &str) -> bool {
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let (image_host, image_path) = name.split_once('/').unwrap_or((name, ""));
    let (labels, image_labels): (Vec<&str>, Vec<&str>) =
        (host.split('.').collect(), image_host.split('.').collect());
    labels.len() == image_labels.len()
        && labels.iter().zip(&image_labels).all(|(a, b)| *a == "*" || a == b)
        && (path.is_empty() || image_path == path || image_path.starts_with(&format!("{path}/")))
}

fn parse(entry: &Value) -> Option<RegistryCredential> {
    let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
    let mut credential = RegistryCredential {
        username: text("username"),
        password: text("password"),
        registry_token: text("registrytoken"),
        identity_token: text("identitytoken"),
    };
    let auth = text("auth");
    if credential.username.is_empty() && !auth.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(auth.trim())
            .ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        (credential.username, credential.password) = (user.to_owned(), password.to_owned());
    }
    (credential != RegistryCredential::default()).then_some(credential)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_most_specific_place_comes_first() {
        let encode = |v: Value| base64::engine::general_purpose::STANDARD.encode(v.to_string());
        let auths = json!({"auths": {
            "registry.example.com": {"username": "host", "password": "x"},
            "registry.example.com/team": {"auth": base64::engine::general_purpose::STANDARD.encode("team:secret")},
            "*.example.com": {"username": "any", "password": "x"},
            "https://index.docker.io/v1/": {"username": "hub", "password": "x"},
        }});
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {}, "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": encode(auths)}}))
            .unwrap();
        let other: Secret = serde_json::from_value(json!({"metadata": {}, "type": "Opaque"})).unwrap();
        let secrets = [Arc::new(secret), Arc::new(other)];
        let users = |image: &str| -> Vec<String> {
            credentials(image, &secrets)
                .into_iter()
                .map(|c| c.username)
                .collect()
        };
        assert_eq!(users("registry.example.com/team/app:1"), ["team", "host", "any"]);
        assert_eq!(users("registry.example.com/teams/app@sha256:0"), ["host", "any"]);
        assert_eq!(users("busybox"), ["hub"]);
        assert_eq!(users("library/busybox:1"), ["hub"]);
        assert_eq!(users("localhost:5000/x"), Vec::<String>::new());
    }
}
