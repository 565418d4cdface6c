//! Links, addresses and routes, over netlink.

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoVeth},
        route::{RouteProtocol, RouteScope},
    },
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

/// Routes that this program made carry this protocol number, so that it never removes another's.
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(79);

/// A netlink operation that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct LinkError {
    /// What was being done.
    pub what: String,
    /// The kernel's answer.
    pub source: io::Error,
}

fn failed(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let what = what.into();
    move |e| LinkError {
        what,
        source: to_io(e),
    }
}

fn to_io(e: rtnetlink::Error) -> io::Error {
    match e {
        rtnetlink::Error::NetlinkError(m) => io::Error::from_raw_os_error(m.raw_code().abs()),
        other => io::Error::other(other.to_string()),
    }
}

fn ignoring(result: Result<(), LinkError>, errno: rustix::io::Errno) -> Result<(), LinkError> {
    match result {
        Err(e) if e.source.raw_os_error() == Some(errno.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// Runs `work` with a netlink socket of this thread's network namespace. The connection ends with the work.
async fn with_handle<T, F>(work: impl FnOnce(Handle) -> F) -> Result<T, LinkError>
where
    F: Future<Output = Result<T, LinkError>>,
{
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|source| LinkError {
        what: "opening a netlink socket".into(),
        source,
    })?;
    tokio::select! {
        biased;
        result = work(handle) => result,
        () = connection => Err(LinkError { what: "netlink socket".into(), source: io::ErrorKind::BrokenPipe.into() }),
    }
}

async fn index_of(handle: &Handle, name: &str) -> Result<Option<u32>, LinkError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        Err(e) => {
            let e = failed(format!("looking up link {name}"))(e);
            if e.source.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) {
                Ok(None)
            } else {
                Err(e)
            }
        }
    }
}

async fn must_index(handle: &Handle, name: &str) -> Result<u32, LinkError> {
    index_of(handle, name).await?.ok_or_else(|| LinkError {
        what: format!("link {name}"),
        source: io::ErrorKind::NotFound.into(),
    })
}

async fn add_address(handle: &Handle, index: u32, ip: IpAddr) -> Result<(), LinkError> {
    let prefix = if ip.is_ipv4() { 32 } else { 128 };
    let result = handle
        .address()
        .add(index, ip, prefix)
        .execute()
        .await
        .map_err(failed(format!("adding {ip}")));
    ignoring(result, rustix::io::Errno::EXIST)
}

async fn set_up(handle: &Handle, index: u32) -> Result<(), LinkError> {
    let up = LinkUnspec::new_with_index(index).up().build();
    handle
        .link()
        .set(up)
        .execute()
        .await
        .map_err(failed("setting a link up"))
}

/// Adds `ip` to the loopback interface (and sets that up). Ok when it is there.
///
/// # Errors
/// [`LinkError`], in most cases for want of `CAP_NET_ADMIN`.
pub async fn add_loopback_address(ip: IpAddr) -> Result<(), LinkError> {
    with_handle(|handle| async move {
        let lo = must_index(&handle, "lo").await?;
        set_up(&handle, lo).await?;
        add_address(&handle, lo, ip).await
    })
    .await
}

/// Removes `ip` from the loopback interface. Ok when it is not there.
///
/// # Errors
/// [`LinkError`].
pub async fn remove_loopback_address(ip: IpAddr) -> Result<(), LinkError> {
    with_handle(|handle| async move {
        let lo = must_index(&handle, "lo").await?;
        let message = match ip {
            IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(lo)
                .address(ip, 32)
                .build(),
            IpAddr::V6(ip) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
                .index(lo)
                .address(ip, 128)
                .build(),
        };
        let result = handle
            .address()
            .del(message)
            .execute()
            .await
            .map_err(failed(format!("removing {ip}")));
        ignoring(result, rustix::io::Errno::ADDRNOTAVAIL)
    })
    .await
}

/// Makes the addresses of `range` be routed into the loopback interface with source address `source`, so that a
/// connection to a cluster IP from the host itself gets as far as the Service rules.
///
/// # Errors
/// [`LinkError`].
pub async fn route_range_to_loopback(range: Ipv4Net, source: Ipv4Addr) -> Result<(), LinkError> {
    with_handle(|handle| async move {
        let lo = must_index(&handle, "lo").await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .output_interface(lo)
            .pref_source(source)
            .scope(RouteScope::Link)
            .protocol(ROUTE_PROTOCOL)
            .build();
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(failed(format!("routing {range}")))
    })
    .await
}

/// Routes `range` to the node at `via`, replacing what was there.
///
/// # Errors
/// [`LinkError`].
pub async fn replace_route(range: Ipv4Net, via: Ipv4Addr) -> Result<(), LinkError> {
    with_handle(|handle| async move {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .gateway(via)
            .protocol(ROUTE_PROTOCOL)
            .build();
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(failed(format!("routing {range} via {via}")))
    })
    .await
}

/// Removes the route to `range` that [`replace_route`] or [`route_range_to_loopback`] made. Ok when there is none.
///
/// # Errors
/// [`LinkError`].
pub async fn remove_route(range: Ipv4Net) -> Result<(), LinkError> {
    with_handle(|handle| async move {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(range.network(), range.prefix_len())
            .protocol(ROUTE_PROTOCOL)
            .build();
        route.header.scope = RouteScope::NoWhere;
        let result = handle
            .route()
            .del(route)
            .execute()
            .await
            .map_err(failed(format!("removing the route to {range}")));
        ignoring(result, rustix::io::Errno::SRCH)
    })
    .await
}

/// Makes a veth pair between this namespace (as `host_name`) and the namespace at `netns` (as `eth0`), with the pod's
/// address inside and a host route to it outside. Completes what an interrupted call left.
///
/// # Errors
/// [`LinkError`].
pub async fn attach_veth(
    host_name: &str,
    netns: &Path,
    pod_ip: Ipv4Addr,
    gateway: Ipv4Addr,
) -> Result<(), LinkError> {
    let namespace = open(netns)?;
    let host = host_name.to_owned();
    let fd = namespace.as_raw_fd();
    with_handle(|handle| async move {
        if index_of(&handle, &host).await?.is_none() {
            let peer = LinkUnspec::new_with_name("eth0").setns_by_fd(fd).build();
            let pair = LinkMessageBuilder::<LinkVeth>::new(&host, "eth0")
                .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
                .up()
                .build();
            handle
                .link()
                .add(pair)
                .execute()
                .await
                .map_err(failed(format!("making link {host}")))?;
        }
        let index = must_index(&handle, &host).await?;
        set_up(&handle, index).await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(pod_ip, 32)
            .output_interface(index)
            .pref_source(gateway)
            .scope(RouteScope::Link)
            .protocol(ROUTE_PROTOCOL)
            .build();
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(failed(format!("routing {pod_ip}")))
    })
    .await?;
    in_namespace(namespace, move |handle| async move {
        let lo = must_index(&handle, "lo").await?;
        set_up(&handle, lo).await?;
        let eth0 = must_index(&handle, "eth0").await?;
        add_address(&handle, eth0, IpAddr::V4(pod_ip)).await?;
        set_up(&handle, eth0).await?;
        let to_gateway = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(gateway, 32)
            .output_interface(eth0)
            .scope(RouteScope::Link)
            .build();
        handle
            .route()
            .add(to_gateway)
            .replace()
            .execute()
            .await
            .map_err(failed("routing the gateway"))?;
        let default = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(gateway)
            .output_interface(eth0)
            .build();
        handle
            .route()
            .add(default)
            .replace()
            .execute()
            .await
            .map_err(failed("setting the default route"))
    })
    .await
}

/// Removes a link and with it its peer and routes. Ok when there is none.
///
/// # Errors
/// [`LinkError`].
pub async fn remove_link(name: &str) -> Result<(), LinkError> {
    with_handle(|handle| async move {
        let Some(index) = index_of(&handle, name).await? else {
            return Ok(());
        };
        let result = handle
            .link()
            .del(index)
            .execute()
            .await
            .map_err(failed(format!("removing link {name}")));
        ignoring(result, rustix::io::Errno::NODEV)
    })
    .await
}

/// Sets the loopback interface of the namespace at `netns` up.
///
/// # Errors
/// [`LinkError`].
pub async fn set_loopback_up(netns: &Path) -> Result<(), LinkError> {
    in_namespace(open(netns)?, |handle| async move {
        let lo = must_index(&handle, "lo").await?;
        set_up(&handle, lo).await
    })
    .await
}

fn open(netns: &Path) -> Result<OwnedFd, LinkError> {
    std::fs::File::open(netns)
        .map(OwnedFd::from)
        .map_err(|source| LinkError {
            what: format!("opening {}", netns.display()),
            source,
        })
}

/// Runs `work` on a thread of its own that has entered `namespace`: a thread that changed namespace must never serve
/// anything else.
async fn in_namespace<F>(
    namespace: OwnedFd,
    work: impl FnOnce(Handle) -> F + Send + 'static,
) -> Result<(), LinkError>
where
    F: Future<Output = Result<(), LinkError>>,
{
    let (done, result) = tokio::sync::oneshot::channel();
    let run = move || -> Result<(), LinkError> {
        let setup = |source| LinkError {
            what: "entering the pod's network namespace".into(),
            source,
        };
        rustix::thread::move_into_link_name_space(
            namespace.as_fd(),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .map_err(|e| setup(e.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(setup)?;
        runtime.block_on(with_handle(work))
    };
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || drop(done.send(run())))
        .map_err(|source| LinkError {
            what: "starting a thread".into(),
            source,
        })?;
    result.await.unwrap_or_else(|_| {
        Err(LinkError {
            what: "namespace thread ended".into(),
            source: io::ErrorKind::Other.into(),
        })
    })
}
