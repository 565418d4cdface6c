//! Where a streaming request goes, and with which parameters. No I/O.

use orch_core::{
    Object, Status, StatusReason,
    client::ApiRequest,
    status::{StatusCause, StatusDetails},
};
use serde_json::Value;
use std::net::IpAddr;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a str> {
    let found = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
    found.into_iter().flatten().map(|c| text(c, "/name"))
}

/// The container that a request is about: the one named, or the only one.
///
/// # Errors
/// `BadRequest` with upstream's texts.
pub(super) fn container<'a>(pod: &'a Object, asked: &'a str) -> Result<&'a str, Status> {
    let value = pod.value();
    let all: Vec<&str> = ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|list| containers(value, list))
        .collect();
    if !asked.is_empty() {
        if all.contains(&asked) {
            return Ok(asked);
        }
        return Err(Status::bad_request(format!(
            "container {asked} is not valid for pod {}",
            pod.name()
        )));
    }
    let plain: Vec<&str> = containers(value, "containers").collect();
    match plain[..] {
        [one] => Ok(one),
        [] => Err(Status::bad_request(format!(
            "a container name must be specified for pod {}",
            pod.name()
        ))),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {}, choose one of: [{}]",
            pod.name(),
            all.join(" ")
        ))),
    }
}

/// Address and port of a node's kubelet.
///
/// # Errors
/// If the node has not reported an address.
pub(super) fn kubelet_address(node: &Object) -> Result<(String, u16), Status> {
    let value = node.value();
    let addresses = value.pointer("/status/addresses").and_then(Value::as_array);
    let of_kind = |kind: &str| {
        addresses
            .into_iter()
            .flatten()
            .find(|a| text(a, "/type") == kind)
            .map(|a| text(a, "/address").to_owned())
    };
    let address = ["InternalIP", "ExternalIP", "Hostname"]
        .iter()
        .find_map(|kind| of_kind(kind));
    let Some(address) = address.filter(|a| !a.is_empty()) else {
        return Err(Status::internal(
            "no preferred addresses found; known addresses: []",
        ));
    };
    let port = value
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_u64);
    let port = port
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
        .unwrap_or(10250);
    Ok((address, port))
}

fn flag(request: &ApiRequest, name: &str) -> bool {
    request
        .query_value(name)
        .is_some_and(|v| matches!(v, "true" | "1" | "t" | "T" | "TRUE" | "True"))
}

/// Parameters of the kubelet's exec and attach.
pub(super) fn stream_parameters(request: &ApiRequest) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (from, to) in [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ] {
        if flag(request, from) {
            out.push((to.to_owned(), "1".to_owned()));
        }
    }
    out.extend(request.query.iter().filter(|(n, _)| n == "command").cloned());
    out
}

/// Parameters of the kubelet's port-forward.
pub(super) fn port_parameters(request: &ApiRequest) -> Vec<(String, String)> {
    let ports: Vec<&str> = request
        .query
        .iter()
        .filter(|(n, _)| n == "ports")
        .map(|(_, v)| v.as_str())
        .collect();
    if ports.is_empty() {
        Vec::new()
    } else {
        vec![("port".to_owned(), ports.join(","))]
    }
}

/// Parameters of the kubelet's container logs, checked.
///
/// # Errors
/// `Invalid` with upstream's texts.
pub(super) fn log_parameters(request: &ApiRequest, pod: &str) -> Result<Vec<(String, String)>, Status> {
    let mut out = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if flag(request, name) {
            out.push((name.to_owned(), "true".to_owned()));
        }
    }
    let mut wrong = Vec::new();
    for (name, least, says) in [
        ("sinceSeconds", 1, "must be greater than 0"),
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
    ] {
        let Some(value) = request.query_value(name).filter(|v| !v.is_empty()) else {
            continue;
        };
        let Ok(number) = value.parse::<i64>() else {
            return Err(Status::bad_request(format!(
                "strconv.ParseInt: parsing {value:?}: invalid syntax: parameter {name}"
            )));
        };
        if number < least {
            wrong.push(cause(
                name,
                "FieldValueInvalid",
                format!("Invalid value: {number}: {says}"),
            ));
        }
        out.push((name.to_owned(), number.to_string()));
    }
    if let Some(time) = request.query_value("sinceTime").filter(|v| !v.is_empty()) {
        if request.query_value("sinceSeconds").is_some_and(|s| !s.is_empty()) {
            let says = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified";
            wrong.push(cause("", "FieldValueForbidden", says.into()));
        }
        if time.parse::<jiff::Timestamp>().is_err() {
            return Err(Status::bad_request(format!(
                "invalid sinceTime {time:?}: not an RFC 3339 time"
            )));
        }
        out.push(("sinceTime".to_owned(), time.to_owned()));
    }
    let stream = request.query_value("stream").unwrap_or("All");
    if !matches!(stream, "All" | "Stdout" | "Stderr") {
        let says =
            format!("Unsupported value: {stream:?}: supported values: \"All\", \"Stderr\", \"Stdout\"");
        wrong.push(cause("stream", "FieldValueNotSupported", says));
    }
    if stream != "All" && request.query_value("tailLines").is_some_and(|t| !t.is_empty()) {
        let says = "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now";
        wrong.push(cause("", "FieldValueForbidden", says.into()));
    }
    out.push(("stream".to_owned(), stream.to_owned()));
    if wrong.is_empty() {
        Ok(out)
    } else {
        Err(invalid_log_options(pod, wrong))
    }
}

fn cause(field: &str, reason: &str, message: String) -> StatusCause {
    StatusCause {
        reason: reason.into(),
        message,
        field: field.into(),
    }
}

fn invalid_log_options(pod: &str, causes: Vec<StatusCause>) -> Status {
    let line = |c: &StatusCause| match c.field.as_str() {
        "" => c.message.clone(),
        field => format!("{field}: {}", c.message),
    };
    let lines: Vec<String> = causes.iter().map(line).collect();
    let joined = if lines.len() == 1 {
        lines[0].clone()
    } else {
        format!("[{}]", lines.join(", "))
    };
    Status::new(
        StatusReason::Invalid,
        format!("PodLogOptions {pod:?} is invalid: {joined}"),
    )
    .with_details(StatusDetails {
        name: pod.into(),
        kind: "PodLogOptions".into(),
        causes,
        ..StatusDetails::default()
    })
}

/// `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxyName<'a> {
    pub(super) https: bool,
    pub(super) name: &'a str,
    pub(super) port: &'a str,
}

/// Takes a proxied object's name apart.
///
/// # Errors
/// `BadRequest` with upstream's text; `what` is `pod`, `node` or `service`.
pub(super) fn proxy_name<'a>(id: &'a str, what: &str) -> Result<ProxyName<'a>, Status> {
    let invalid = || Status::bad_request(format!("invalid {what} request {id:?}"));
    let parts: Vec<&str> = id.split(':').collect();
    let (scheme, name, port) = match parts[..] {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => return Err(invalid()),
    };
    if name.is_empty() || !matches!(scheme, "" | "http" | "https") {
        return Err(invalid());
    }
    Ok(ProxyName {
        https: scheme == "https",
        name,
        port,
    })
}

/// Whether the server may open a connection there on a user's behalf: not to itself, its host or the link.
pub(super) fn is_reachable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast())
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_reachable(&IpAddr::V4(v4)),
            None => {
                !(v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local() || v6.is_multicast())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn container_choice() {
        let pod = |names: &[&str]| {
            let list: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
            Object::from_value(
                json!({"metadata": {"name": "x"}, "spec": {"containers": list, "initContainers": [{"name": "i"}]}}),
            )
        };
        assert_eq!(container(&pod(&["a"]), "").unwrap(), "a");
        assert_eq!(container(&pod(&["a", "b"]), "i").unwrap(), "i");
        for (names, asked, says) in [
            (
                &["a", "b"][..],
                "",
                "a container name must be specified for pod x, choose one of: [i a b]",
            ),
            (&["a"], "z", "container z is not valid for pod x"),
            (&[], "", "a container name must be specified for pod x"),
        ] {
            assert_eq!(container(&pod(names), asked).unwrap_err().message, says);
        }
    }

    #[test]
    fn parameters_are_mapped_and_checked() {
        let request = ApiRequest::get("/x")
            .param("stdin", "true")
            .param("tty", "true")
            .param("stdout", "false");
        let request = request
            .param("command", "ls")
            .param("command", "-l")
            .param("container", "c");
        let found: Vec<String> = stream_parameters(&request)
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        assert_eq!(found, ["input=1", "tty=1", "command=ls", "command=-l"]);
        let request = ApiRequest::get("/x")
            .param("follow", "true")
            .param("tailLines", "5");
        let found: Vec<String> = log_parameters(&request, "p")
            .unwrap()
            .iter()
            .map(|(n, v)| format!("{n}={v}"))
            .collect();
        assert_eq!(found, ["follow=true", "tailLines=5", "stream=All"]);
        let error = log_parameters(&ApiRequest::get("/x").param("tailLines", "-1"), "p").unwrap_err();
        assert_eq!(
            error.message,
            "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"
        );
    }

    #[test]
    fn names_and_addresses() {
        let name = |https, name, port| ProxyName { https, name, port };
        assert_eq!(proxy_name("a", "pod").unwrap(), name(false, "a", ""));
        assert_eq!(proxy_name("a:80", "pod").unwrap(), name(false, "a", "80"));
        assert_eq!(
            proxy_name("https:a:web", "service").unwrap(),
            name(true, "a", "web")
        );
        assert_eq!(
            proxy_name("ftp:a:1", "pod").unwrap_err().message,
            "invalid pod request \"ftp:a:1\""
        );
        for (ip, reachable) in [
            ("10.0.0.1", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("::ffff:127.0.0.1", false),
            ("fd00::1", true),
        ] {
            assert_eq!(is_reachable(&ip.parse().unwrap()), reachable, "{ip}");
        }
    }
}
