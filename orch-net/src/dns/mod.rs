//! Cluster DNS, after the Kubernetes DNS specification (`github.com/kubernetes/dns`, version 1.1.0).
//!
//! [`Zone`] is the pure view: Services and EndpointSlices in, records out. [`DnsServer`] puts it on UDP and TCP and
//! forwards other names to the resolvers of the host.

mod answer;
mod server;
mod zone;

pub use answer::answer;
pub use server::{DnsConfig, DnsServer, host_resolvers};
pub use zone::{Found, Zone};
