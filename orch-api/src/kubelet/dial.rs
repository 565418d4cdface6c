//! Connections to kubelets and pods, one a request.

use crate::{
    http::path_and_query,
    http_client::{Transport, send_over, tls_config},
    pki::KeyAndCert,
    setup_error::SetupError,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use orch_core::{
    Env, Status,
    client::{ApiRequest, RequestBody},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{sync::Arc, time::Duration};
use tokio::net::TcpStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a target proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS both ways under the cluster CA.
    Kubelet,
    /// None: HTTP to a pod.
    Plain,
    /// TLS without knowing the pod's CA.
    Unknown,
}

/// Where to connect to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    host: String,
    port: u16,
    security: Security,
}

impl Target {
    pub(super) fn kubelet(host: String, port: u16) -> Self {
        Self {
            host,
            port,
            security: Security::Kubelet,
        }
    }
    pub(super) fn pod(host: String, port: u16, https: bool) -> Self {
        Self {
            host,
            port,
            security: if https { Security::Unknown } else { Security::Plain },
        }
    }
    fn authority(&self) -> String {
        let host = &self.host;
        if host.contains(':') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// Opens connections.
pub(super) struct Dialer {
    env: Env,
    kubelet: ClientConfig,
    pod: ClientConfig,
}

impl Dialer {
    pub(super) fn new(env: Env, ca_pem: &str, client: &KeyAndCert) -> Result<Self, SetupError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pod = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(SetupError::crypto("set up TLS"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyPod(provider)))
            .with_no_client_auth();
        Ok(Self {
            env,
            kubelet: tls_config(ca_pem, Some(client))?,
            pod,
        })
    }

    /// Sends `request` to the target over a connection of its own and gives the head of the answer, which may be
    /// `101 Switching Protocols`.
    pub(super) async fn send(
        &self,
        target: &Target,
        request: ApiRequest,
    ) -> Result<Response<Incoming>, Status> {
        let mut out = Request::new(Full::new(match request.body {
            RequestBody::Empty => Bytes::new(),
            RequestBody::Bytes(bytes) => bytes,
            RequestBody::Value(value) => serde_json::to_vec(&value).map_err(Status::internal)?.into(),
        }));
        *out.method_mut() = request.method;
        *out.headers_mut() = request.headers;
        *out.uri_mut() = path_and_query(&request.path, &request.query)
            .parse()
            .map_err(|e| Status::bad_request(format!("invalid path: {e}")))?;
        let config = match target.security {
            Security::Plain => {
                let stream = self.tcp(target).await?;
                let sent = send_over(&self.env, stream, &target.authority(), out).await;
                return sent.map_err(|e| unreachable(target, e));
            }
            Security::Kubelet => &self.kubelet,
            Security::Unknown => &self.pod,
        };
        let transport = Transport::new(&self.env, &target.host, target.port, None, config.clone())
            .map_err(|e| unreachable(target, e))?;
        transport
            .send_h1(out)
            .await
            .map_err(|e| Status::internal(format!("error dialing backend: {}", e.message)))
    }

    async fn tcp(&self, target: &Target) -> Result<TcpStream, Status> {
        let open = async {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            stream.set_nodelay(true)?;
            std::io::Result::Ok(stream)
        };
        tokio::select! {
            result = open => result.map_err(|e| unreachable(target, e)),
            () = self.env.clock.sleep(CONNECT_TIMEOUT) => Err(unreachable(target, "no connection in time")),
        }
    }
}

fn unreachable(target: &Target, why: impl std::fmt::Display) -> Status {
    // What the proxy of upstream says when the other side is not there.
    Status::unavailable(format!(
        "error trying to reach service: dial tcp {}: {why}",
        target.authority()
    ))
}

/// Accepts the certificate of any pod. A pod's serving certificate is the application's own affair and the cluster
/// knows no CA for it; upstream's proxy to pods is the same. Nothing secret of the server goes there.
#[derive(Debug)]
struct AnyPod(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyPod {
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
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
