//! The network of a node: Services as nftables rules or through a userspace proxy, cluster DNS, and the pod network.
//!
//! What a packet must do is compiled by pure functions ([`proxy::compile`], [`dns::Zone`], [`pod::ipam`]); the backends
//! that tell the kernel are thin. Nothing here watches the API by itself except [`feed`], which turns informers into
//! calls of those functions.

pub mod dns;
pub mod feed;
pub mod pod;
pub mod proxy;
pub mod testing;
