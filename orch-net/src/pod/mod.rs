//! The pod network.
//!
//! [`VethNetwork`] gives each pod one end of a veth pair and a host route to its address. There is no bridge: every
//! packet between pods is routed by the host, so that Service rules and connection tracking see it. Between hosts,
//! [`link::replace_route`] leads each node's range to the node.

pub mod ipam;
pub mod link;
mod sim;
mod veth;

pub use sim::SimNetwork;
pub use veth::{VethConfig, VethNetwork};
