//! EndpointSlices: the addresses behind each Service that has a selector.
//!
//! Behaviour of upstream's `pkg/controller/endpointslice`: at most 100 endpoints a slice, one set of slices per
//! address family and set of ports (named target ports may differ from pod to pod), few writes rather than full
//! slices. Topology hints are not written.

mod endpoint;
mod plan;

pub(crate) use endpoint::{find_port, is_ipv6, services_of, sets_hostname};

use crate::shared::{Context, overlay::Overlay, text, uid, write::is_namespace_terminating};
use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use orch_core::{
    ObjectKey,
    controller::{Action, Controller, Error, EventRecorder, Reconciler, events::EventType::Warning},
    informer::{Delta, Informer, Lister},
    selector::LabelSelector,
};
use plan::{Observed, Plan};
use std::{collections::BTreeMap, sync::Arc};

/// Label that names a slice's Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that names a slice's controller.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The name of this controller in that label.
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Index of slices by namespace and Service.
const BY_SERVICE: &str = "service";

struct EndpointSlices {
    ctx: Context,
    services: Lister<Service>,
    pods: Lister<Pod>,
    nodes: Lister<Node>,
    slices: Informer<EndpointSlice>,
    recorder: EventRecorder,
    overlay: Overlay<EndpointSlice>,
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    (labels.get(MANAGED_BY)? == CONTROLLER).then(|| {
        ObjectKey::new(
            text(&slice.metadata.namespace),
            labels.get(SERVICE_NAME).cloned().unwrap_or_default(),
        )
    })
}

/// The EndpointSlice controller.
#[must_use]
pub fn controller(ctx: &Context) -> Controller {
    let services = ctx.informers.informer::<Service>();
    let slices = ctx.informers.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, |s: &EndpointSlice| {
        service_of(s).iter().map(ToString::to_string).collect()
    });
    let (pods, nodes) = (ctx.pods(), ctx.informers.informer::<Node>());
    let reconciler = Arc::new(EndpointSlices {
        ctx: ctx.clone(),
        services: services.lister(),
        pods: pods.lister(),
        nodes: nodes.lister(),
        slices: slices.clone(),
        recorder: ctx.recorder("endpoint-slice-controller"),
        overlay: Overlay::default(),
    });
    let lister = services.lister();
    Controller::new("endpointslice", &ctx.env, reconciler)
        .workers(ctx.config.workers)
        .watch(&services)
        .watch_mapped(&slices, |delta: &Delta<EndpointSlice>| {
            delta.states().filter_map(|s| service_of(s)).collect()
        })
        .watch_mapped(&pods, move |delta| services_of(&lister, delta))
        .needs(&nodes)
}

#[async_trait]
impl Reconciler for EndpointSlices {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(service) = self.services.get(key) else {
            // Its slices go with it by their owner references.
            self.overlay.forget(key);
            return Ok(Action::AwaitChange);
        };
        let spec = service.spec.clone().unwrap_or_default();
        let Some(selector) = spec
            .selector
            .as_ref()
            .filter(|_| spec.type_.as_deref() != Some("ExternalName"))
        else {
            return Ok(Action::AwaitChange);
        };
        let selector = LabelSelector::from_labels(selector);
        let version = self.slices.raw().resource_version();
        let slices = self.slices.lister().by_index(BY_SERVICE, &key.to_string());
        let mut slices = self.overlay.apply(key, slices, &version);
        slices.retain(|s| !crate::shared::is_deleting(&s.metadata));
        let pods = self.pods.select_in(&key.namespace, &selector);
        let zones = self.zones(&pods);
        let observed = Observed {
            service,
            pods,
            slices,
            zones,
        };
        let plan = plan::plan(&observed, self.ctx.config.max_endpoints_per_slice);
        let waiting = plan.without_node.clone();
        if let Err(error) = self.apply(key, plan).await {
            let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
            self.recorder.record(
                &*observed.service,
                Warning,
                "FailedToUpdateEndpointSlices",
                message,
            );
            return Err(error);
        }
        match waiting.first() {
            Some(pod) => Err(Error::NotYet(format!("pod {pod} names a node that is not known"))),
            None => Ok(Action::AwaitChange),
        }
    }
}

impl EndpointSlices {
    /// The zone of each known node that a pod names; empty if the node has none.
    fn zones(&self, pods: &[Arc<Pod>]) -> BTreeMap<String, String> {
        let mut zones = BTreeMap::new();
        for pod in pods {
            let name = crate::shared::pods::node_name(pod);
            if !zones.contains_key(name)
                && let Some(node) = self.nodes.find("", name)
            {
                let zone = node
                    .metadata
                    .labels
                    .as_ref()
                    .and_then(|l| l.get("topology.kubernetes.io/zone"));
                zones.insert(name.to_owned(), zone.cloned().unwrap_or_default());
            }
        }
        zones
    }

    async fn apply(&self, key: &ObjectKey, plan: Plan) -> Result<(), Error> {
        let api = self.ctx.api::<EndpointSlice>(&key.namespace);
        for slice in &plan.create {
            match api.create(slice).await {
                Ok(created) => self.overlay.created(key, created),
                Err(error) if is_namespace_terminating(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        for slice in &plan.update {
            let written = api.replace(slice).await?;
            self.overlay.created(key, written);
        }
        for slice in &plan.delete {
            match api
                .delete_uid(text(&slice.metadata.name), uid(&slice.metadata), "Background")
                .await
            {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => self.overlay.deleted(key, uid(&slice.metadata)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
