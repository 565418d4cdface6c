//! Where a probe goes; pure.

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

/// Target of an HTTP probe or hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// `http` or `https`.
    pub scheme: String,
    /// Host to connect to.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
}

impl HttpTarget {
    /// Host and port as in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        join(&self.host, self.port)
    }
    /// The URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

/// Host and port as in a URL, IPv6 addresses in brackets.
#[must_use]
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The number of a port, which may be given as the name of a port of the container.
///
/// # Errors
/// A message if there is no such port or it is out of range.
pub fn port_of(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => *n,
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref() == Some(name));
            match named {
                Some(p) => p.container_port,
                // Upstream also takes a number in a string.
                None => name.parse().map_err(|_| format!("couldn't find port: {name}"))?,
            }
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("invalid port number: {number}"))
}

/// Where an HTTP action goes. `agent` names the sender in `User-Agent`: `kube-probe` or `kube-lifecycle`.
///
/// # Errors
/// As [`port_of`].
pub fn http_target(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: &str,
    agent: &str,
) -> Result<HttpTarget, String> {
    let set = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let mut headers: Vec<(String, String)> = action
        .http_headers
        .iter()
        .flatten()
        .map(|h| (h.name.clone(), h.value.clone()))
        .collect();
    let has =
        |headers: &[(String, String)], name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !has(&headers, "User-Agent") {
        headers.push(("User-Agent".into(), format!("{agent}/1.36")));
    }
    if !has(&headers, "Accept") {
        headers.push(("Accept".into(), "*/*".into()));
    }
    // An empty value takes a header away.
    headers.retain(|(_, value)| !value.is_empty());
    let path = set(&action.path).unwrap_or_else(|| "/".into());
    Ok(HttpTarget {
        scheme: set(&action.scheme).map_or_else(|| "http".into(), |s| s.to_lowercase()),
        host: set(&action.host).unwrap_or_else(|| pod_ip.to_owned()),
        port: port_of(&action.port, container)?,
        path: if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        },
        headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn targets() {
        let container: Container =
            serde_json::from_value(json!({"name": "a", "ports": [{"name": "web", "containerPort": 8080}]}))
                .unwrap();
        let at = |action: serde_json::Value, ip: &str| {
            http_target(
                &serde_json::from_value(action).unwrap(),
                &container,
                ip,
                "kube-probe",
            )
            .map(|t| t.url())
        };
        assert_eq!(
            at(json!({"port": 80}), "10.0.0.1"),
            Ok("http://10.0.0.1:80/".into())
        );
        assert_eq!(
            at(json!({"port": "web", "path": "x?y=1"}), "fd00::1"),
            Ok("http://[fd00::1]:8080/x?y=1".into())
        );
        assert_eq!(
            at(json!({"port": 443, "host": "h", "scheme": "HTTPS"}), "1.1.1.1"),
            Ok("https://h:443/".into())
        );
        assert_eq!(
            at(json!({"port": "none"}), "1.1.1.1"),
            Err("couldn't find port: none".into())
        );
        assert_eq!(
            at(json!({"port": 0}), "1.1.1.1"),
            Err("invalid port number: 0".into())
        );
    }
}
