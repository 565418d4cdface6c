//! The HTTP side of an upgrade: which protocol both sides speak, and the `101` answer's headers.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const PORT_FORWARD: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Protocols of exec and attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandProtocol {
    /// WebSocket, first byte of each message is the channel. Version 5 can close single channels, 4 cannot.
    WebSocket {
        /// 5 or 4.
        version: u8,
    },
    /// SPDY/3.1 with a stream per channel; from version 4 on the error stream carries a `Status`.
    Spdy {
        /// 4, 3, 2 or 1.
        version: u8,
    },
}

/// Protocols of port-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardProtocol {
    /// WebSocket with two channels per port (`v4.channel.k8s.io`).
    WebSocket,
    /// SPDY/3.1 inside WebSocket messages.
    Tunnel,
    /// SPDY/3.1.
    Spdy,
}

/// The chosen protocol, and the headers that the `101 Switching Protocols` answer carries.
#[derive(Debug, Clone)]
pub struct Negotiated<P> {
    /// The protocol.
    pub protocol: P,
    /// Headers of the answer.
    pub headers: HeaderMap,
}

/// Why no protocol could be chosen.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NegotiationError {
    /// The request is no upgrade: 400.
    #[error("unable to upgrade: missing upgrade headers in request: {0:?}")]
    NotAnUpgrade(String),
    /// Client and server have no protocol in common: 403.
    #[error(
        "unable to upgrade: unable to negotiate protocol: client supports {client:?}, server accepts {server:?}"
    )]
    NoCommonProtocol {
        /// What the client offered.
        client: Vec<String>,
        /// What the server speaks.
        server: Vec<&'static str>,
    },
}

fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|v| v.trim().to_owned())
        .filter(|v| !v.is_empty())
        .collect()
}

fn upgrades_to(headers: &HeaderMap, protocol: &str) -> bool {
    let connection = values(headers, &header::CONNECTION)
        .iter()
        .any(|v| v.eq_ignore_ascii_case("upgrade"));
    connection
        && values(headers, &header::UPGRADE)
            .iter()
            .any(|v| v.eq_ignore_ascii_case(protocol))
}

fn switch_to(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    headers
}

fn websocket_answer(request: &HeaderMap, subprotocol: &'static str) -> HeaderMap {
    let mut headers = switch_to("websocket");
    if let Some(key) = request.get(header::SEC_WEBSOCKET_KEY)
        && let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
    {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(subprotocol),
    );
    headers
}

fn spdy_answer(version: &'static str) -> HeaderMap {
    let mut headers = switch_to("SPDY/3.1");
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(version));
    headers
}

fn choose<P: Copy>(
    request: &HeaderMap,
    websocket: &[(&'static str, P)],
    spdy: &[(&'static str, P)],
) -> Result<Negotiated<P>, NegotiationError> {
    let (offered, known, is_websocket) = if upgrades_to(request, "websocket") {
        (values(request, &header::SEC_WEBSOCKET_PROTOCOL), websocket, true)
    } else if upgrades_to(request, "SPDY/3.1") {
        (values(request, &STREAM_PROTOCOL), spdy, false)
    } else {
        let upgrade = values(request, &header::UPGRADE).join(", ");
        return Err(NegotiationError::NotAnUpgrade(upgrade));
    };
    // The client's order counts, as upstream's negotiation has it.
    let chosen = offered
        .iter()
        .find_map(|offer| known.iter().find(|(name, _)| name == offer));
    match chosen {
        Some((name, protocol)) => {
            let headers = if is_websocket {
                websocket_answer(request, name)
            } else {
                spdy_answer(name)
            };
            Ok(Negotiated {
                protocol: *protocol,
                headers,
            })
        }
        None => Err(NegotiationError::NoCommonProtocol {
            client: offered,
            server: known.iter().map(|(name, _)| *name).collect(),
        }),
    }
}

/// Chooses the protocol of an exec or attach request from its headers.
///
/// # Errors
/// [`NegotiationError`].
pub fn negotiate_command(request: &HeaderMap) -> Result<Negotiated<CommandProtocol>, NegotiationError> {
    let websocket = [
        ("v5.channel.k8s.io", CommandProtocol::WebSocket { version: 5 }),
        ("v4.channel.k8s.io", CommandProtocol::WebSocket { version: 4 }),
    ];
    let spdy = [
        ("v4.channel.k8s.io", CommandProtocol::Spdy { version: 4 }),
        ("v3.channel.k8s.io", CommandProtocol::Spdy { version: 3 }),
        ("v2.channel.k8s.io", CommandProtocol::Spdy { version: 2 }),
        ("channel.k8s.io", CommandProtocol::Spdy { version: 1 }),
    ];
    choose(request, &websocket, &spdy)
}

/// Chooses the protocol of a port-forward request from its headers.
///
/// # Errors
/// [`NegotiationError`].
pub fn negotiate_forward(request: &HeaderMap) -> Result<Negotiated<ForwardProtocol>, NegotiationError> {
    let websocket = [
        (TUNNEL, ForwardProtocol::Tunnel),
        ("v4.channel.k8s.io", ForwardProtocol::WebSocket),
    ];
    choose(request, &websocket, &[(PORT_FORWARD, ForwardProtocol::Spdy)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_clients_first_known_offer_wins() {
        let chosen = negotiate_command(&request(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            (
                "sec-websocket-protocol",
                "v6.channel.k8s.io, v5.channel.k8s.io, v4.channel.k8s.io",
            ),
        ]))
        .unwrap();
        assert_eq!(chosen.protocol, CommandProtocol::WebSocket { version: 5 });
        // The example of RFC 6455, section 1.3.
        assert_eq!(
            chosen.headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(chosen.headers["sec-websocket-protocol"], "v5.channel.k8s.io");
        let spdy = negotiate_forward(&request(&[
            ("connection", "Upgrade"),
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "portforward.k8s.io"),
        ]));
        assert_eq!(spdy.unwrap().protocol, ForwardProtocol::Spdy);
    }

    #[test]
    fn what_cannot_be_spoken_is_refused() {
        assert!(matches!(
            negotiate_command(&HeaderMap::new()),
            Err(NegotiationError::NotAnUpgrade(_))
        ));
        let other = request(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "chat"),
        ]);
        assert!(matches!(
            negotiate_forward(&other),
            Err(NegotiationError::NoCommonProtocol { .. })
        ));
    }
}
