//! DNS over real sockets on loopback.
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use orch_core::Env;
use orch_net::dns::{DnsConfig, DnsServer, Zone};
use serde_json::json;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn udp(to: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), to).await.unwrap();
    let mut packet = [0; 4096];
    let (length, _) = socket.recv_from(&mut packet).await.unwrap();
    Message::from_vec(&packet[..length]).unwrap()
}

async fn tcp(to: SocketAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

async fn server(forward: Vec<SocketAddr>, endpoints: usize) -> DnsServer {
    let config = DnsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        forward,
    };
    let server = DnsServer::start(&Env::system(), config, "cluster.local")
        .await
        .unwrap();
    let services = [
        json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIP": "10.96.0.9"}}),
        json!({"metadata": {"name": "many", "namespace": "default"}, "spec": {"clusterIP": "None"}}),
    ]
    .map(|v| Arc::new(serde_json::from_value(v).unwrap()));
    let addresses: Vec<_> = (0..endpoints)
        .map(|n| json!({"addresses": [format!("10.0.{}.{}", n / 250, n % 250 + 1)]}))
        .collect();
    let slice = json!({"metadata": {"name": "many-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "many"}},
        "addressType": "IPv4", "endpoints": addresses});
    server.set_zone(Zone::build(
        "cluster.local",
        &services,
        &[Arc::new(serde_json::from_value(slice).unwrap())],
        [],
    ));
    server
}

#[tokio::test]
async fn services_resolve_over_udp_and_tcp() {
    let server = server(vec![], 1).await;
    let to = server.listening()[0];
    let question = query("Web.default.svc.cluster.local.", RecordType::A);
    for response in [udp(to, &question).await, tcp(to, &question).await] {
        assert_eq!(response.metadata.response_code, ResponseCode::NoError);
        let [record] = response.answers.as_slice() else {
            panic!("{response:?}")
        };
        assert!(matches!(&record.data, RData::A(a) if a.0.to_string() == "10.96.0.9"));
    }
    let absent = udp(to, &query("no.default.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    let other_family = udp(to, &query("web.default.svc.cluster.local.", RecordType::AAAA)).await;
    assert_eq!(other_family.metadata.response_code, ResponseCode::NoError);
    assert!(other_family.answers.is_empty() && !other_family.authorities.is_empty());
    let outside = udp(to, &query("example.org.", RecordType::A)).await;
    assert_eq!(outside.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test]
async fn long_answers_are_truncated_over_udp_and_whole_over_tcp() {
    let server = server(vec![], 100).await;
    let to = server.listening()[0];
    let question = query("many.default.svc.cluster.local.", RecordType::A);
    assert!(udp(to, &question).await.metadata.truncation);
    assert_eq!(tcp(to, &question).await.answers.len(), 100);
}

#[tokio::test]
async fn other_names_are_forwarded_and_garbage_is_ignored() {
    let upstream = server(vec![], 1).await;
    let config = DnsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        forward: upstream.listening().to_vec(),
    };
    let front = DnsServer::start(&Env::system(), config, "other.domain")
        .await
        .unwrap();
    let to = front.listening()[0];
    UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .send_to(&[0xff; 40], to)
        .await
        .unwrap();
    let question = query("web.default.svc.cluster.local.", RecordType::A);
    assert_eq!(udp(to, &question).await.answers.len(), 1);
    assert_eq!(tcp(to, &question).await.answers.len(), 1);
}
