//! The desired state of a node's service proxy, as plain data.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Transport protocol of a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Parses the API's name; empty is TCP.
    #[must_use]
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The name in lower case, as nftables and `/etc/services` write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Namespace, name and port name of a service port, with its protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: String,
    /// Service name.
    pub name: String,
    /// Port name, empty if the port has none.
    pub port: String,
    /// Protocol: one port name is unique per Service, but be robust against two.
    pub protocol: Protocol,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}:{}/{}",
            self.namespace,
            self.name,
            self.port,
            self.protocol.name()
        )
    }
}

/// Where connections to one service port go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRule {
    /// Service port number.
    pub port: u16,
    /// Cluster IPs.
    pub cluster_ips: Vec<IpAddr>,
    /// External IPs and load-balancer ingress addresses.
    pub external_ips: Vec<IpAddr>,
    /// Port on every node address.
    pub node_port: Option<u16>,
    /// Endpoints on any node.
    pub endpoints: Vec<SocketAddr>,
    /// Endpoints on this node.
    pub local_endpoints: Vec<SocketAddr>,
    /// `internalTrafficPolicy: Local`: cluster IP traffic stays on the node.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: outside traffic stays on the node and keeps its source address.
    pub external_local: bool,
    /// `sessionAffinity: ClientIP` and its time-out.
    pub affinity: Option<Duration>,
}

impl ServiceRule {
    /// The endpoints that traffic to a cluster IP may go to.
    #[must_use]
    pub fn internal_endpoints(&self) -> &[SocketAddr] {
        if self.internal_local {
            &self.local_endpoints
        } else {
            &self.endpoints
        }
    }

    /// The endpoints that traffic from outside may go to.
    #[must_use]
    pub fn external_endpoints(&self) -> &[SocketAddr] {
        if self.external_local {
            &self.local_endpoints
        } else {
            &self.endpoints
        }
    }
}

/// Every service port of the cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleTable {
    /// The rules.
    pub services: BTreeMap<ServiceName, ServiceRule>,
}
