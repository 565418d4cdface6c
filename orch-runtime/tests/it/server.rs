//! The agent's own API over TLS, on a simulated node in real time.

use crate::cluster::{SimNetwork, Strategic};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use orch_core::{Api, Env, client::ApiClient, spawn::Shutdown, testing::FakeApi};
use orch_runtime::{
    agent::{NodeAgent, NodeConfig, machine::FixedMachine},
    probe::SimProbes,
    runtime::sim::{SimOptions, SimRuntime},
    server::{ByCertificate, ServerConfig, tls_config},
    volume::DiskFiles,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "ca");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }
    fn issue(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }
    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

struct Node {
    env: Env,
    authority: Authority,
    client: Arc<dyn ApiClient>,
    port: u16,
    shutdown: Shutdown,
    _dir: tempfile::TempDir,
}

type Connection = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

impl Node {
    async fn start() -> Self {
        let env = Env::system();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (chain, key) = authority.issue("node");
        let server = ServerConfig {
            listener,
            tls: tls_config(chain, key, authority.roots()).unwrap(),
            authorizer: Arc::new(ByCertificate::api_server()),
        };
        let api = FakeApi::new(&env);
        let client: Arc<dyn ApiClient> = Arc::new(Strategic(api));
        let options = SimOptions {
            all_images_present: true,
            ..SimOptions::default()
        };
        let runtime = SimRuntime::new(env.clone(), options);
        let config = NodeConfig::new("n1", "127.0.0.1".parse().unwrap(), dir.path());
        let root = config.root_dir.clone();
        let agent = NodeAgent::new(
            config,
            env.clone(),
            client.clone(),
            runtime.clone(),
            Arc::new(SimNetwork::default()),
        )
        .with_files(Arc::new(DiskFiles::new(env.clone(), root)))
        .with_probes(Arc::new(SimProbes(runtime.clone())))
        .with_machine(Arc::new(FixedMachine::new(4, 8 << 30)))
        .with_server(server);
        let shutdown = Shutdown::new();
        env.spawner.spawn("agent", Box::pin(agent.run(shutdown.clone())));
        Self {
            env,
            authority,
            client,
            port,
            shutdown,
            _dir: dir,
        }
    }

    async fn pod(&self, name: &str, command: &str) -> Pod {
        let pods = Api::<Pod>::namespaced(self.client.clone(), "default");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": "n1", "restartPolicy": "Never",
                "containers": [{"name": "a", "image": "web:1", "command": ["sh", "-c", command]}]},
        }))
        .unwrap();
        pods.create(&pod).await.unwrap();
        loop {
            let pod = pods.get(name).await.unwrap();
            let phase = pod
                .status
                .as_ref()
                .and_then(|s| s.phase.clone())
                .unwrap_or_default();
            if phase != "Pending" && !phase.is_empty() {
                return (*pod).clone();
            }
            self.env.clock.sleep(Duration::from_millis(10)).await;
        }
    }

    async fn connect(&self, name: &str) -> Connection {
        let (chain, key) = self.authority.issue(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.authority.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driver = async move { drop(connection.with_upgrades().await) };
        self.env.spawner.spawn("client", Box::pin(driver));
        sender
    }

    async fn get_as(&self, name: &str, path: &str) -> (StatusCode, String) {
        let mut connection = self.connect(name).await;
        let request = Request::get(path)
            .header("host", "node")
            .body(Empty::new())
            .unwrap();
        let response = connection.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.get_as("kube-apiserver-kubelet-client", path).await
    }

    /// Opens a WebSocket and gathers what comes on each channel until the server closes it.
    async fn exec(&self, path: &str, input: &[Message]) -> Vec<(u8, String)> {
        let mut connection = self.connect("kube-apiserver-kubelet-client").await;
        let request = Request::get(path)
            .header("host", "node")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "v5.channel.k8s.io")
            .body(Empty::new())
            .unwrap();
        let response = connection.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        for message in input {
            socket.send(message.clone()).await.unwrap();
        }
        let mut channels: Vec<(u8, String)> = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Binary(bytes) = message else { break };
            let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
            match channels.iter_mut().find(|(c, _)| *c == bytes[0]) {
                Some((_, have)) => have.push_str(&text),
                None => channels.push((bytes[0], text)),
            }
        }
        channels.sort();
        channels
    }
}

const FOREVER: &str = "trap 'exit 0' TERM; sleep 3600 & wait";

#[tokio::test]
async fn who_may_do_what() {
    let node = Node::start().await;
    assert_eq!(node.get("/healthz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(node.get_as("somebody", "/healthz").await.0, StatusCode::OK);
    let (status, text) = node.get_as("somebody", "/pods").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        text,
        "Forbidden (user=somebody, verb=get, resource=nodes, subresource(s)=[pods])\n"
    );
    assert_eq!(node.get("/nothing").await.0, StatusCode::NOT_FOUND);
    // Without a certificate there is no connection at all.
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(node.authority.roots())
            .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", node.port))
        .await
        .unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let refused = match tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
    {
        Err(_) => true,
        // In TLS 1.3 the client learns it with the first read.
        Ok(mut stream) => tokio::io::AsyncReadExt::read_u8(&mut stream).await.is_err(),
    };
    assert!(refused);
    node.shutdown.trigger();
}

#[tokio::test]
async fn pods_logs_and_statistics() {
    let node = Node::start().await;
    node.pod("p", "echo one; echo two; sleep 0.3; echo three; exit 0")
        .await;
    node.pod("q", FOREVER).await;
    let (status, text) = node.get("/containerLogs/default/p/a?follow=true").await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "one\ntwo\nthree\n"));
    assert_eq!(
        node.get("/containerLogs/default/p/a?tailLines=1").await.1,
        "three\n"
    );
    let (status, text) = node.get("/containerLogs/default/p/a?previous=true").await;
    assert_eq!(
        (status, text.as_str()),
        (
            StatusCode::BAD_REQUEST,
            "previous terminated container \"a\" in pod \"p\" not found\n"
        )
    );
    assert_eq!(
        node.get("/containerLogs/default/none/a").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        node.get("/containerLogs/default/p/none").await.0,
        StatusCode::NOT_FOUND
    );
    let pods: Value = serde_json::from_str(&node.get("/pods").await.1).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "p");
    let summary: Value = serde_json::from_str(&node.get("/stats/summary").await.1).unwrap();
    assert_eq!(summary["node"]["nodeName"], "n1");
    assert_eq!(summary["pods"][0]["podRef"]["name"], "q");
    assert!(node.get("/metrics").await.1.contains("kubelet_running_pods 1"));
    let metrics = node.get("/metrics/resource").await.1;
    assert!(
        metrics
            .contains("container_cpu_usage_seconds_total{container=\"a\",namespace=\"default\",pod=\"q\"}")
    );
    node.shutdown.trigger();
}

#[tokio::test]
async fn exec_carries_streams_and_exit_codes() {
    let node = Node::start().await;
    node.pod("p", FOREVER).await;
    let channels = node
        .exec(
            "/exec/default/p/a?command=sh&command=-c&command=echo+hi%3B+exit+3&output=1",
            &[],
        )
        .await;
    assert_eq!(channels[0], (1, "hi\n".into()));
    let status: Value = serde_json::from_str(&channels[1].1).unwrap();
    assert_eq!(
        (channels[1].0, &status["details"]["causes"][0]["message"]),
        (3, &json!("3"))
    );
    let input = [
        Message::binary(b"\x00ping\n".to_vec()),
        Message::binary(vec![255, 0]),
    ];
    let channels = node
        .exec("/exec/default/p/a?command=cat&input=1&output=1", &input)
        .await;
    assert_eq!(channels[0], (1, "ping\n".into()));
    assert!(channels[1].1.contains("Success"));
    let channels = node
        .exec("/exec/default/p/a?command=/nonexistent/x&output=1", &[])
        .await;
    assert!(
        channels.last().unwrap().1.contains("no such file or directory"),
        "{channels:?}"
    );
    assert_eq!(
        node.get("/exec/default/none/a?command=ls&output=1").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        node.get("/exec/default/p/a?command=ls&output=1").await.0,
        StatusCode::BAD_REQUEST
    );
    node.shutdown.trigger();
}

#[tokio::test]
async fn ports_are_forwarded() {
    let node = Node::start().await;
    node.pod("p", FOREVER).await;
    let mut connection = node.connect("kube-apiserver-kubelet-client").await;
    let request = Request::get("/portForward/default/p?port=80")
        .header("host", "node")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v4.channel.k8s.io")
        .body(Empty::new())
        .unwrap();
    let response = connection.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    socket.send(Message::binary(b"\x00hello".to_vec())).await.unwrap();
    let mut echoed = Vec::new();
    while echoed.len() < 5 {
        let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() else {
            continue;
        };
        // The first message of each channel is the port.
        if bytes[0] == 0 && bytes[1..] != 80u16.to_le_bytes() {
            echoed.extend_from_slice(&bytes[1..]);
        }
    }
    assert_eq!(echoed, b"hello");
    node.shutdown.trigger();
}
