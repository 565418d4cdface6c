//! Streams to a kubelet: a small one of the test's own, with a certificate of the cluster.

use super::{Cluster, create, get, run};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use orch_api::pki::{KeyAndCert, ServingNames};
use orch_core::{
    ApiClient,
    client::{ApiRequest, ResponseBody},
};
use serde_json::json;
use std::{convert::Infallible, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let asked = request.uri().to_string();
    let mut response = Response::new(Full::default());
    if asked.starts_with("/attach/default/on-n1/waiting") {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = Full::from("container not found (\"waiting\")\n");
    } else if request.headers().contains_key(header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.unwrap());
            io.write_all(format!("asked {asked}\n").as_bytes()).await.unwrap();
            let mut buffer = [0; 1024];
            while let Ok(n) = io.read(&mut buffer).await {
                if n == 0 || io.write_all(&buffer[..n].to_ascii_uppercase()).await.is_err() {
                    break;
                }
            }
        });
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for name in [header::UPGRADE, header::CONNECTION] {
            response
                .headers_mut()
                .insert(&name, request.headers()[&name].clone());
        }
    } else if asked.contains("waiting") {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        *response.body_mut() =
            Full::from("container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating\n");
    } else {
        *response.body_mut() = Full::from(format!("{asked}\n"));
    }
    Ok(response)
}

/// Serves TLS with `pair`, requiring a client certificate of the cluster; gives the port.
async fn kubelet(cluster: &Cluster, pair: &KeyAndCert) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cluster.pki.ca.cert_der().clone()).unwrap();
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(pair.chain().unwrap(), pair.private_key().unwrap())
        .unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else {
                    return;
                };
                let service = hyper::service::service_fn(answer);
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                drop(connection.with_upgrades().await);
            });
        }
    });
    port
}

async fn node(cluster: &Cluster, name: &str, port: u16) {
    let admin = cluster.admin();
    create(&admin, "/api/v1/nodes", json!({"metadata": {"name": name}}))
        .await
        .unwrap();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    let request = ApiRequest::new(http::Method::PATCH, format!("/api/v1/nodes/{name}/status")).value(status);
    admin
        .call(request.header(header::CONTENT_TYPE, "application/merge-patch+json"))
        .await
        .unwrap();
    let sa = json!({"metadata": {"name": "default"}});
    let _ = create(&admin, "/api/v1/namespaces/default/serviceaccounts", sa).await;
    let container = |name: &str| json!({"name": name, "image": "i"});
    let pod = json!({"metadata": {"name": format!("on-{name}")}, "spec": {"nodeName": name,
        "containers": [container("a"), container("waiting")]}});
    create(&admin, "/api/v1/namespaces/default/pods", pod)
        .await
        .unwrap();
}

async fn stream(response: orch_core::client::ApiResponse) -> String {
    let ResponseBody::Stream { chunks, .. } = response.body else {
        panic!("{response:?}")
    };
    let bytes: Vec<u8> = chunks.map(|c| c.unwrap().to_vec()).concat().await;
    String::from_utf8(bytes).unwrap()
}

#[test]
fn logs_exec_and_port_forward_reach_the_kubelet() {
    run(async {
        let cluster = Cluster::start().await;
        let names = ServingNames {
            dns: Vec::new(),
            ips: vec!["127.0.0.1".parse().unwrap()],
        };
        let pair = cluster
            .pki
            .kubelet_serving("n1", &names, cluster.env.clock.now())
            .unwrap();
        let port = kubelet(&cluster, &pair).await;
        node(&cluster, "n1", port).await;
        let admin = cluster.admin();
        let pod = "/api/v1/namespaces/default/pods/on-n1";
        let log = async |query: &[(&str, &str)]| {
            let request = query
                .iter()
                .fold(ApiRequest::get(format!("{pod}/log")), |r, (n, v)| r.param(*n, *v));
            admin.call(request).await
        };
        let found = stream(
            log(&[("container", "a"), ("follow", "true"), ("tailLines", "3")])
                .await
                .unwrap(),
        )
        .await;
        assert_eq!(
            found,
            "/containerLogs/default/on-n1/a?follow=true&tailLines=3&stream=All\n"
        );
        let error = log(&[]).await.unwrap_err();
        assert_eq!(
            error.message,
            "a container name must be specified for pod on-n1, choose one of: [a waiting]"
        );
        let error = log(&[("container", "waiting")]).await.unwrap_err();
        assert_eq!(
            error.message,
            "container \"waiting\" in pod \"p\" is waiting to start: ContainerCreating"
        );

        for (sub, query, expected) in [
            (
                "exec",
                vec![
                    ("container", "a"),
                    ("command", "ls"),
                    ("command", "-l"),
                    ("stdin", "true"),
                    ("tty", "true"),
                ],
                "/exec/default/on-n1/a?input=1&tty=1&command=ls&command=-l",
            ),
            (
                "attach",
                vec![("container", "a"), ("stdout", "true")],
                "/attach/default/on-n1/a?output=1",
            ),
            (
                "portforward",
                vec![("ports", "80"), ("ports", "81")],
                "/portForward/default/on-n1?port=80%2C81",
            ),
        ] {
            let request = query
                .iter()
                .fold(ApiRequest::get(format!("{pod}/{sub}")), |r, (n, v)| {
                    r.param(*n, *v)
                });
            let request = request
                .header(header::UPGRADE, "SPDY/3.1")
                .header(header::CONNECTION, "Upgrade");
            let mut upgraded = admin.connect(request).await.unwrap();
            assert_eq!(upgraded.headers[header::UPGRADE], "SPDY/3.1");
            upgraded.io.write_all(b"hello\n").await.unwrap();
            let expected = format!("asked {expected}\nHELLO\n");
            let mut found = vec![0; expected.len()];
            upgraded.io.read_exact(&mut found).await.unwrap();
            assert_eq!(String::from_utf8(found).unwrap(), expected);
        }
        // A refused upgrade is told in the kubelet's words.
        let error = admin
            .connect(
                ApiRequest::get(format!("{pod}/attach"))
                    .param("container", "waiting")
                    .header(header::UPGRADE, "SPDY/3.1")
                    .header(header::CONNECTION, "Upgrade"),
            )
            .await
            .err()
            .unwrap();
        assert_eq!(
            (error.code, error.message.as_str()),
            (404, "container not found (\"waiting\")")
        );
        // A plain request to a stream is told what is missing; a user without rights does not get that far.
        assert_eq!(
            get(&admin, &format!("{pod}/exec?container=a"))
                .await
                .unwrap_err()
                .code,
            404
        );
        assert_eq!(
            get(&admin, &format!("{pod}/exec")).await.unwrap_err().message,
            "Upgrade request required"
        );
        let eve = cluster.as_user("eve", &[]);
        let request = ApiRequest::get(format!("{pod}/exec")).header(header::UPGRADE, "SPDY/3.1");
        assert_eq!(
            eve.connect(request.header(header::CONNECTION, "Upgrade"))
                .await
                .err()
                .unwrap()
                .code,
            403
        );
        let found = stream(get(&admin, "/api/v1/nodes/n1/proxy/metrics/x").await.unwrap()).await;
        assert_eq!(found, "/metrics/x\n");
    });
}

#[test]
fn a_kubelet_with_another_certificate_is_not_talked_to() {
    run(async {
        let cluster = Cluster::start().await;
        let other = orch_api::pki::Pki::ephemeral(&ServingNames::default(), cluster.env.clock.now()).unwrap();
        let names = ServingNames {
            dns: Vec::new(),
            ips: vec!["127.0.0.1".parse().unwrap()],
        };
        let pair = other
            .kubelet_serving("n1", &names, cluster.env.clock.now())
            .unwrap();
        let port = kubelet(&cluster, &pair).await;
        node(&cluster, "n1", port).await;
        let request = ApiRequest::get("/api/v1/namespaces/default/pods/on-n1/log").param("container", "a");
        let error = cluster.admin().call(request).await.unwrap_err();
        assert!(error.message.contains("certificate"), "{error}");
    });
}

#[test]
fn an_upgrade_works_in_process_too() {
    use tower::Service;
    run(async {
        let cluster = Cluster::start().await;
        let names = ServingNames {
            dns: Vec::new(),
            ips: vec!["127.0.0.1".parse().unwrap()],
        };
        let pair = cluster
            .pki
            .kubelet_serving("n1", &names, cluster.env.clock.now())
            .unwrap();
        let port = kubelet(&cluster, &pair).await;
        node(&cluster, "n1", port).await;
        let user = orch_core::UserInfo::new("me", &["system:masters"]);
        let mut service = orch_api::kube_service::KubeService::new(cluster.api.clone(), user);
        let request = Request::get("/api/v1/namespaces/default/pods/on-n1/exec?container=a&stdin=true")
            .header(header::UPGRADE, "SPDY/3.1")
            .header(header::CONNECTION, "Upgrade")
            .body(http_body_util::Empty::<Bytes>::new())
            .unwrap();
        let response = service.call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        io.write_all(b"hello\n").await.unwrap();
        let expected = "asked /exec/default/on-n1/a?input=1\nHELLO\n";
        let mut found = vec![0; expected.len()];
        io.read_exact(&mut found).await.unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected);
    });
}
