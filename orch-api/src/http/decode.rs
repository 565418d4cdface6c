//! From an HTTP request to an [`ApiRequest`].

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::request::Parts;
use http_body_util::BodyExt;
use orch_core::{
    Status, StatusReason,
    client::{ApiRequest, RequestBody},
};

/// Longest body of an API request, as upstream.
pub(crate) const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// Longest body of a request that is passed on to a pod or node.
pub(crate) const PROXY_BODY_LIMIT: usize = 256 * 1024 * 1024;

/// Everything but the body.
pub(crate) fn decode(parts: Parts) -> Result<ApiRequest, Status> {
    let path = percent_decode(parts.uri.path(), false)
        .ok_or_else(|| Status::bad_request(format!("invalid URL escape in {:?}", parts.uri.path())))?;
    let mut query = Vec::new();
    for pair in parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|p| !p.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (percent_decode(name, true), percent_decode(value, true)) else {
            return Err(Status::bad_request(format!("invalid URL escape in {pair:?}")));
        };
        query.push((name, value));
    }
    Ok(ApiRequest {
        method: parts.method,
        path,
        query,
        headers: parts.headers,
        body: RequestBody::Empty,
    })
}

/// The whole body, if it is no longer than `limit`.
pub(crate) async fn read_body<B>(mut body: B, limit: usize) -> Result<RequestBody, Status>
where
    B: http_body::Body + Unpin,
    B::Data: Buf,
    B::Error: std::fmt::Display,
{
    let too_large = || {
        Status::new(
            StatusReason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {limit}"),
        )
    };
    let hint = body.size_hint();
    if hint.lower() > limit as u64 {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut rest: Option<BytesMut> = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|e| Status::bad_request(format!("unable to read the request body: {e}")))?;
        let Ok(mut data) = frame.into_data() else { continue };
        let piece = data.copy_to_bytes(data.remaining());
        let held = first.as_ref().map_or(0, Bytes::len) + rest.as_ref().map_or(0, BytesMut::len);
        if held + piece.len() > limit {
            return Err(too_large());
        }
        // Nearly every body comes in one piece, which is then not copied.
        match (&mut first, &mut rest) {
            (None, None) => first = Some(piece),
            (_, Some(rest)) => rest.put(piece),
            (Some(head), None) => {
                let mut all = BytesMut::with_capacity((hint.lower() as usize).max(head.len() + piece.len()));
                all.put(std::mem::take(head));
                all.put(piece);
                (first, rest) = (None, Some(all));
            }
        }
    }
    let bytes = rest.map(BytesMut::freeze).or(first).unwrap_or_default();
    Ok(if bytes.is_empty() {
        RequestBody::Empty
    } else {
        RequestBody::Bytes(bytes)
    })
}

/// `None` for a broken escape or text that is not UTF-8.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let special = |b: u8| b == b'%' || (plus_is_space && b == b'+');
    if !text.bytes().any(special) {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                out.push((high * 16 + low) as u8);
            }
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).ok()
}

/// Escapes what has a meaning in a query, or none in a URL at all.
pub(crate) fn percent_encode(text: &str, out: &mut String, keep: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Path and query of `request`, escaped.
pub(crate) fn path_and_query(path: &str, query: &[(String, String)]) -> String {
    let mut out = String::with_capacity(path.len() + 32);
    percent_encode(path, &mut out, b"/:@!$&'()*+,;=");
    for (i, (name, value)) in query.iter().enumerate() {
        out.push(if i == 0 { '?' } else { '&' });
        percent_encode(name, &mut out, b"");
        out.push('=');
        percent_encode(value, &mut out, b"");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use proptest::prelude::*;

    #[test]
    fn queries_are_decoded_and_broken_escapes_refused() {
        let parts = |uri: &str| http::Request::get(uri).body(()).unwrap().into_parts().0;
        let request = decode(parts("/api/v1/a%20b?labelSelector=a%3Db%2Cc+d&x&=y")).unwrap();
        assert_eq!(request.path, "/api/v1/a b");
        assert_eq!(request.query_value("labelSelector"), Some("a=b,c d"));
        assert_eq!(request.query[1], ("x".into(), String::new()));
        assert!(decode(parts("/%zz")).is_err());
        assert!(decode(parts("/a?b=%f")).is_err());
        assert!(decode(parts("/%ff")).is_err());
    }

    #[tokio::test]
    async fn long_bodies_are_refused_with_upstreams_text() {
        let error = read_body(Full::new(Bytes::from(vec![0; 11])), 10)
            .await
            .unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (413, "Request entity too large: limit is 10")
        );
        assert!(read_body(Full::new(Bytes::from(vec![0; 10])), 10).await.is_ok());
    }

    proptest! {
        #[test]
        fn escaping_is_undone_by_decoding(path in "/[ -~é/%]{0,20}", name in ".{0,8}", value in ".{0,8}") {
            let uri = path_and_query(&path, &[(name.clone(), value.clone())]);
            let parts = http::Request::get(&uri).body(()).unwrap().into_parts().0;
            let request = decode(parts).unwrap();
            prop_assert_eq!(request.path, path);
            prop_assert_eq!(&request.query[0], &(name, value));
        }
    }
}
