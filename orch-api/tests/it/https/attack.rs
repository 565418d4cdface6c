//! Credentials that must not be accepted, and requests that must not hurt.

use super::{Cluster, create, get, run, text};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use orch_api::{
    kubeconfig::Kubeconfig,
    pki::{LeafRequest, Pki, ServingNames},
    tokens::{Claims, SigningKey},
};
use orch_core::{
    ApiClient,
    client::{ApiRequest, RequestBody},
};
use serde_json::json;
use std::time::Duration;

#[test]
fn without_credentials_only_health_and_version_answer() {
    run(async {
        let cluster = Cluster::start().await;
        let anonymous = cluster.anonymous();
        for path in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(text(get(&anonymous, path).await.unwrap()), "ok", "{path}");
        }
        assert!(text(get(&anonymous, "/version").await.unwrap()).contains("v1.36.2"));
        for path in [
            "/",
            "/api",
            "/apis",
            "/api/v1/pods",
            "/metrics",
            "/healthz/ping",
            "/openapi/v2",
            "/openid/v1/jwks",
        ] {
            let error = get(&anonymous, path).await.unwrap_err();
            assert_eq!(
                (error.code, error.message.as_str()),
                (401, "Unauthorized"),
                "{path}"
            );
        }
    });
}

#[test]
fn certificates_of_strangers_expired_ones_and_servers_are_not_identities() {
    run(async {
        let cluster = Cluster::start().await;
        let now = cluster.env.clock.now();
        let other = Pki::ephemeral(&ServingNames::default(), now).unwrap();
        let expired = LeafRequest {
            lifetime: Duration::ZERO,
            ..LeafRequest::client("root", &["system:masters"])
        };
        let long_ago = now.checked_sub(jiff::SignedDuration::from_hours(1)).unwrap();
        let names = ServingNames {
            dns: vec!["x".into()],
            ips: Vec::new(),
        };
        let mut serving = LeafRequest::serving("root", &names);
        serving.groups = vec!["system:masters".into()];
        for (what, pair) in [
            ("foreign", other.client("root", &["system:masters"], now).unwrap()),
            ("expired", cluster.pki.ca.issue(&expired, long_ago).unwrap()),
            ("serving", cluster.pki.ca.issue(&serving, now).unwrap()),
            (
                "nameless",
                cluster.pki.client("", &["system:masters"], now).unwrap(),
            ),
        ] {
            let config = Kubeconfig::with_certificate(cluster.url(), cluster.pki.ca.cert_pem(), "root", pair);
            let client = cluster.client(&config);
            for path in ["/api/v1/secrets", "/healthz"] {
                assert_eq!(get(&client, path).await.unwrap_err().code, 401, "{what} {path}");
            }
        }
        // A proxy's certificate is not a user's, and headers count only with a proxy's certificate.
        let pair = cluster
            .pki
            .front_proxy_ca
            .issue(&LeafRequest::client("root", &["system:masters"]), now)
            .unwrap();
        let config = Kubeconfig::with_certificate(cluster.url(), cluster.pki.ca.cert_pem(), "p", pair);
        let proxy = cluster.client(&config);
        assert_eq!(get(&proxy, "/api/v1/secrets").await.unwrap_err().code, 401);
        let forwarded = |group: &'static str| {
            let mut request = ApiRequest::get("/api/v1/secrets");
            request.headers.insert("x-remote-user", "alice".parse().unwrap());
            request.headers.insert("x-remote-group", group.parse().unwrap());
            request
        };
        assert!(proxy.call(forwarded("system:masters")).await.is_ok());
        let error = proxy.call(forwarded("dev")).await.unwrap_err();
        assert!(
            error
                .message
                .contains("User \"alice\" cannot list resource \"secrets\""),
            "{error}"
        );
        let plain = cluster.as_user("eve", &[]);
        assert_eq!(
            plain.call(forwarded("system:masters")).await.unwrap_err().code,
            403
        );
        assert_eq!(
            cluster
                .anonymous()
                .call(forwarded("system:masters"))
                .await
                .unwrap_err()
                .code,
            401
        );
    });
}

#[test]
fn a_client_does_not_talk_to_a_server_of_another_ca() {
    run(async {
        let cluster = Cluster::start().await;
        let other = Pki::ephemeral(&ServingNames::default(), cluster.env.clock.now()).unwrap();
        let pair = cluster.pki.client("a", &[], cluster.env.clock.now()).unwrap();
        let client = cluster.client(&Kubeconfig::with_certificate(
            cluster.url(),
            other.ca.cert_pem(),
            "a",
            pair.clone(),
        ));
        let error = get(&client, "/version").await.unwrap_err();
        assert!(
            error.code == 503 && error.message.contains("certificate"),
            "{error}"
        );
        let mut config = Kubeconfig::with_certificate(cluster.url(), cluster.pki.ca.cert_pem(), "a", pair);
        config.tls_server_name = Some("elsewhere".into());
        assert_eq!(
            get(&cluster.client(&config), "/version").await.unwrap_err().code,
            503
        );
    });
}

#[test]
fn tokens_that_are_forged_expired_or_for_others_are_refused() {
    run(async {
        let cluster = Cluster::start().await;
        let admin = cluster.admin();
        create(
            &admin,
            "/api/v1/namespaces/default/serviceaccounts",
            json!({"metadata": {"name": "sa"}}),
        )
        .await
        .unwrap();
        let path = "/api/v1/namespaces/default/serviceaccounts/sa/token";
        let token = async |spec: serde_json::Value| {
            let answer = create(&admin, path, json!({"spec": spec})).await.unwrap();
            super::json(answer)["status"]["token"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let good = token(json!({})).await;
        // Known, but with few rights: 403, not 401.
        assert_eq!(
            get(&cluster.with_token(&good), "/api/v1/secrets")
                .await
                .unwrap_err()
                .code,
            403
        );

        let key = SigningKey::from_pem(&cluster.pki.service_account_key_pem).unwrap();
        let stranger = Pki::ephemeral(&ServingNames::default(), cluster.env.clock.now()).unwrap();
        let stranger = SigningKey::from_pem(&stranger.service_account_key_pem).unwrap();
        let claims: Claims = key.verify(&good).unwrap();
        let now = cluster.env.clock.now().as_second();
        let expired = Claims {
            exp: now - 3600,
            iat: now - 7200,
            nbf: now - 7200,
            ..claims.clone()
        };
        let future = Claims {
            nbf: now + 3600,
            ..claims.clone()
        };
        let issuer = Claims {
            iss: "https://elsewhere".into(),
            ..claims.clone()
        };
        let subject = Claims {
            sub: "system:serviceaccount:kube-system:root".into(),
            ..claims.clone()
        };
        let mut recreated = claims.clone();
        recreated.kubernetes.serviceaccount.uid = "another".into();
        let unsigned = {
            let mut parts = good.split('.');
            let (_, body) = (parts.next(), parts.next().unwrap());
            format!("{}.{body}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#))
        };
        for (what, bad) in [
            ("expired", key.sign(&expired).unwrap()),
            ("not yet", key.sign(&future).unwrap()),
            ("other issuer", key.sign(&issuer).unwrap()),
            ("other subject", key.sign(&subject).unwrap()),
            ("recreated account", key.sign(&recreated).unwrap()),
            ("wrong audience", token(json!({"audiences": ["vault"]})).await),
            ("foreign key", stranger.sign(&claims).unwrap()),
            ("no signature", unsigned),
            ("cut", good[..good.len() - 4].to_owned()),
            ("bootstrap that is not kept", "abcdef.0123456789abcdef".to_owned()),
            ("nonsense", "x".to_owned()),
        ] {
            let client = cluster.with_token(&bad);
            assert_eq!(
                get(&client, "/api/v1/secrets").await.unwrap_err().code,
                401,
                "{what}"
            );
            assert_eq!(
                get(&client, "/healthz").await.unwrap_err().code,
                401,
                "{what}: a bad credential is not anonymous"
            );
        }
    });
}

#[test]
fn large_bodies_and_impossible_encodings_are_refused_with_upstreams_texts() {
    run(async {
        let cluster = Cluster::start().await;
        let admin = cluster.admin();
        let mut request = ApiRequest::new(http::Method::POST, "/api/v1/namespaces/default/configmaps");
        request.body = RequestBody::Bytes(vec![b' '; 3 * 1024 * 1024 + 1].into());
        let error = admin.call(request).await.unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (413, "Request entity too large: limit is 3145728")
        );
        let request = ApiRequest::get("/api/v1/namespaces")
            .header(http::header::ACCEPT, "application/vnd.kubernetes.protobuf");
        assert_eq!(admin.call(request).await.unwrap_err().code, 406);
        let accept = "application/vnd.kubernetes.protobuf,application/json";
        assert!(
            admin
                .call(ApiRequest::get("/api/v1/namespaces").header(http::header::ACCEPT, accept))
                .await
                .is_ok()
        );
        assert_eq!(get(&admin, "/nothing/here").await.unwrap_err().code, 404);
        // The same connection still works.
        assert!(get(&admin, "/version").await.is_ok());
    });
}

#[test]
fn a_request_without_tls_is_told_so_and_garbage_only_ends_its_connection() {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    run(async {
        let cluster = Cluster::start().await;
        let mut plain = TcpStream::connect(cluster.address).await.unwrap();
        plain.write_all(b"GET /api HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        plain.read_to_string(&mut answer).await.unwrap();
        assert_eq!(
            answer,
            "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
        );
        for garbage in [&[0xff; 64][..], b"\x16\x03\x01\xff\xff", b"hello"] {
            let mut stream = TcpStream::connect(cluster.address).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
        assert!(get(&cluster.admin(), "/version").await.is_ok());
    });
}
