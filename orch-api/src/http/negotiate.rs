//! Which encoding a client gets.

use http::{HeaderMap, header};
use orch_core::{Status, StatusReason};

/// An encoding of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
}

/// The first clause of `Accept` that can be served, by quality. Parameters (`as=Table` and the like) are not looked at
/// here: a clause with them is served as JSON, transformed or not, by the server behind.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Encoding, Status> {
    let mut best: Option<(u32, Encoding)> = None;
    let mut asked = false;
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for clause in value.split(',').map(str::trim).filter(|c| !c.is_empty()) {
            asked = true;
            let mut parts = clause.split(';').map(str::trim);
            let encoding = match parts.next().unwrap_or_default() {
                "application/json" | "*/*" | "application/*" => Encoding::Json,
                "application/yaml" => Encoding::Yaml,
                _ => continue,
            };
            let quality = parts
                .find_map(|p| p.strip_prefix("q="))
                .and_then(|q| q.parse::<f32>().ok())
                .map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u32);
            if quality > 0 && best.is_none_or(|(q, _)| quality > q) {
                best = Some((quality, encoding));
            }
        }
    }
    match best {
        Some((_, encoding)) => Ok(encoding),
        None if !asked => Ok(Encoding::Json),
        None => Err(Status::new(
            StatusReason::NotAcceptable,
            "only the following media types are accepted: application/json, application/yaml",
        )),
    }
}

/// Whether the client takes gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|c| {
            let mut parts = c.split(';').map(str::trim);
            parts.next() == Some("gzip")
                && !parts.any(|p| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<Encoding>) {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        assert_eq!(negotiate(&headers).ok(), expected, "{accept}");
    }

    #[test]
    fn clauses() {
        check("", Some(Encoding::Json));
        check("*/*", Some(Encoding::Json));
        check("application/yaml", Some(Encoding::Yaml));
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            Some(Encoding::Json),
        );
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Some(Encoding::Json),
        );
        check("application/json;q=0.5, application/yaml", Some(Encoding::Yaml));
        check("application/vnd.kubernetes.protobuf", None);
        check("text/html", None);
    }
}
