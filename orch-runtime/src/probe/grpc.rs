//! gRPC health probes (`grpc.health.v1.Health/Check`): one message each way, written by hand.

use super::{
    Outcome,
    net::{NetProbes, dial},
    target::join,
};
use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_util::rt::{TokioExecutor, TokioIo};

/// `HealthCheckRequest { string service = 1; }` with gRPC's five bytes before it.
fn request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(&message);
    out.into()
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Status out of `HealthCheckResponse { ServingStatus status = 1; }`.
fn status(mut body: Bytes) -> Option<u64> {
    if body.len() < 5 || body[0] != 0 {
        return None;
    }
    body.advance(1);
    let length = body.get_u32() as usize;
    let message = body.get(..length)?;
    match message {
        [] => Some(0),
        [0x08, value] if *value < 0x80 => Some(u64::from(*value)),
        _ => None,
    }
}

pub(super) async fn check(net: &NetProbes, host: &str, port: u16, service: &str) -> Outcome {
    match call(net, host, port, service).await {
        Ok(1) => Outcome::Success,
        Ok(other) => {
            let name = match other {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "unknown status",
            };
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        Err(why) => Outcome::Failure(why),
    }
}

async fn call(net: &NetProbes, host: &str, port: u16, service: &str) -> Result<u64, String> {
    let authority = join(host, port);
    let stream = dial(host, port)
        .await
        .map_err(|e| format!("error: failed to connect service {authority:?}: {e}"))?;
    let failed = |e: hyper::Error| format!("error: health rpc probe failed: {e}");
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driver = net
        .env
        .spawner
        .spawn("probe", Box::pin(async move { drop(connection.await) }));
    let request = Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "kube-probe/1.36")
        .body(Full::new(request(service)))
        .map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    let early = response.headers().get("grpc-status").cloned();
    let body = Limited::new(response.into_body(), 64 * 1024).collect().await;
    driver.abort();
    let body = body.map_err(|e| format!("error: health rpc probe failed: {e}"))?;
    let code = body
        .trailers()
        .and_then(|t| t.get("grpc-status").cloned())
        .or(early);
    match code.as_ref().and_then(|c| c.to_str().ok()) {
        Some("0") => {
            status(body.to_bytes()).ok_or_else(|| "error: health rpc probe failed: bad answer".into())
        }
        Some("12") => Err(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into(),
        ),
        code => Err(format!(
            "error: health rpc probe failed: rpc error: code = {}",
            code.unwrap_or("unknown")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(status(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])), Some(1));
        assert_eq!(status(Bytes::from_static(&[0, 0, 0, 0, 0])), Some(0));
        for bad in [
            &[][..],
            &[0, 0, 0, 0, 9, 8, 1],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 1, 8],
        ] {
            assert_eq!(status(Bytes::copy_from_slice(bad)), None, "{bad:?}");
        }
    }
}
