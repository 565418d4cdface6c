//! HTTP and HTTPS probes.

use super::{
    HttpTarget, Outcome,
    net::{NetProbes, dial},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Takes any certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub(super) fn unchecked_tls() -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone());
    let versions = builder
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|_| unreachable!("ring has TLS 1.3"));
    versions
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth()
}

/// At most this much of a body is read, for the message.
const BODY_BYTES: usize = 10 * 1024;
const REDIRECTS: usize = 10;

struct Answer {
    status: StatusCode,
    location: Option<String>,
}

/// One GET; redirects on the same host are followed, one to another host is a warning.
pub(super) async fn get(net: &NetProbes, target: &HttpTarget) -> Outcome {
    let mut target = target.clone();
    for _ in 0..=REDIRECTS {
        let answer = match once(net, &target).await {
            Ok(answer) => answer,
            Err(why) => return Outcome::Failure(format!("Get {:?}: {why}", target.url())),
        };
        let Some(location) = answer.location.filter(|_| answer.status.is_redirection()) else {
            return match answer.status.as_u16() {
                200..=399 => Outcome::Success,
                code => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
            };
        };
        match redirected(&target, &location) {
            Some(next) => target = next,
            None => return Outcome::Warning("Probe terminated redirects, Response body: ".into()),
        }
    }
    Outcome::Failure(format!(
        "Get {:?}: stopped after {REDIRECTS} redirects",
        target.url()
    ))
}

/// The target of a redirect; `None` if it leads to another host.
fn redirected(from: &HttpTarget, location: &str) -> Option<HttpTarget> {
    let mut next = from.clone();
    if let Some((scheme, rest)) = location.split_once("://") {
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let uri: hyper::http::uri::Authority = authority.parse().ok()?;
        if uri.host().trim_matches(['[', ']']) != from.host {
            return None;
        }
        scheme.clone_into(&mut next.scheme);
        next.port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        path.clone_into(&mut next.path);
    } else if location.starts_with('/') {
        location.clone_into(&mut next.path);
    } else {
        let base = from.path.rsplit_once('/').map_or("", |(base, _)| base);
        next.path = format!("{base}/{location}");
    }
    Some(next)
}

async fn once(net: &NetProbes, target: &HttpTarget) -> Result<Answer, String> {
    let stream = dial(&target.host, target.port).await?;
    if target.scheme != "https" {
        return exchange(net, target, stream).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(net.tls.clone());
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|e| format!("tls: {e}"))?;
    exchange(net, target, stream).await
}

async fn exchange<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    net: &NetProbes,
    target: &HttpTarget,
    stream: S,
) -> Result<Answer, String> {
    let text = |e: hyper::Error| e.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(text)?;
    let driver = net
        .env
        .spawner
        .spawn("probe", Box::pin(async move { drop(connection.await) }));
    let own_host = target
        .headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case("host"))
        .map(|(_, v)| v.clone());
    let mut request = Request::get(&target.path)
        .header(header::HOST, own_host.unwrap_or_else(|| target.authority()))
        .header(header::CONNECTION, "close");
    for (name, value) in target
        .headers
        .iter()
        .filter(|(n, _)| !n.eq_ignore_ascii_case("host"))
    {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
    let response = sender.send_request(request).await.map_err(text)?;
    let location = response
        .headers()
        .get(header::LOCATION)
        .and_then(|l| l.to_str().ok())
        .map(str::to_owned);
    let status = response.status();
    drop(Limited::new(response.into_body(), BODY_BYTES).collect().await);
    driver.abort();
    Ok(Answer { status, location })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{ProbeTransport, Subject};
    use orch_core::Env;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that gives one answer to each connection.
    async fn server(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut seen = [0; 1024];
                drop(stream.read(&mut seen).await);
                drop(stream.write_all(answer.as_bytes()).await);
            }
        };
        Env::system().spawner.spawn("server", Box::pin(serve));
        port
    }

    #[tokio::test]
    async fn statuses() {
        let net = NetProbes::new(Env::system());
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Outcome::Success),
            ("HTTP/1.1 304 Not Modified\r\n\r\n", Outcome::Success),
            (
                "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
                Outcome::Failure("HTTP probe failed with statuscode: 500".into()),
            ),
            (
                "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
                Outcome::Warning("Probe terminated redirects, Response body: ".into()),
            ),
        ] {
            let target = HttpTarget {
                scheme: "http".into(),
                host: "127.0.0.1".into(),
                port: server(answer).await,
                path: "/".into(),
                headers: vec![],
            };
            let got = net
                .http(&Subject::default(), &target, Duration::from_secs(5))
                .await;
            assert_eq!(got, expected, "{answer}");
        }
    }

    #[tokio::test]
    async fn refused_connections_are_worded_as_people_know_them() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let net = NetProbes::new(Env::system());
        let subject = Subject::default();
        assert_eq!(
            net.tcp(&subject, "127.0.0.1", port, Duration::from_secs(5)).await,
            Outcome::Success
        );
        drop(listener);
        let got = net.tcp(&subject, "127.0.0.1", port, Duration::from_secs(5)).await;
        assert_eq!(
            got,
            Outcome::Failure(format!("dial tcp 127.0.0.1:{port}: connect: connection refused"))
        );
    }
}
