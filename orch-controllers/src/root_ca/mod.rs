//! The ConfigMap `kube-root-ca.crt` in each namespace, by which pods verify the API server. Behaviour of upstream's
//! `rootcacertpublisher`.

use crate::shared::{Context, is_deleting, text, write::is_namespace_terminating};
use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use orch_core::{
    ObjectKey,
    controller::{Action, Controller, Error, Reconciler},
    informer::{Delta, Lister},
};
use std::{collections::BTreeMap, sync::Arc};

/// Name of the ConfigMap.
pub const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
    endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
    distributions of Kubernetes clusters.";

struct RootCa {
    ctx: Context,
    namespaces: Lister<Namespace>,
    maps: Lister<ConfigMap>,
    wanted: (BTreeMap<String, String>, BTreeMap<String, String>),
}

/// The publisher of `bundle_pem`. Its keys are namespaces.
#[must_use]
pub fn controller(ctx: &Context, bundle_pem: String) -> Controller {
    let namespaces = ctx.informers.informer::<Namespace>();
    let maps = ctx.informers.informer::<ConfigMap>();
    let data = BTreeMap::from([("ca.crt".to_owned(), bundle_pem)]);
    let annotations = BTreeMap::from([("kubernetes.io/description".to_owned(), DESCRIPTION.to_owned())]);
    let reconciler = Arc::new(RootCa {
        ctx: ctx.clone(),
        namespaces: namespaces.lister(),
        maps: maps.lister(),
        wanted: (data, annotations),
    });
    Controller::new("root-ca", &ctx.env, reconciler)
        .watch(&namespaces)
        .watch_mapped(&maps, |delta: &Delta<ConfigMap>| {
            let meta = &delta.object().metadata;
            let ours = text(&meta.name) == NAME;
            ours.then(|| ObjectKey::new("", text(&meta.namespace)))
                .into_iter()
                .collect()
        })
}

#[async_trait]
impl Reconciler for RootCa {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        if self.namespaces.get(key).is_none_or(|n| is_deleting(&n.metadata)) {
            return Ok(Action::AwaitChange);
        }
        let (data, annotations) = &self.wanted;
        let api = self.ctx.api::<ConfigMap>(&key.name);
        let outcome = match self.maps.find(&key.name, NAME) {
            None => {
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.into()),
                        namespace: Some(key.name.clone()),
                        annotations: Some(annotations.clone()),
                        ..ObjectMeta::default()
                    },
                    data: Some(data.clone()),
                    ..ConfigMap::default()
                };
                api.create(&map).await
            }
            Some(map) => {
                let described = map
                    .metadata
                    .annotations
                    .iter()
                    .flatten()
                    .any(|(_, v)| v == DESCRIPTION);
                if map.data.as_ref() == Some(data) && described {
                    return Ok(Action::AwaitChange);
                }
                let mut map = (*map).clone();
                map.data = Some(data.clone());
                map.metadata
                    .annotations
                    .get_or_insert_default()
                    .extend(annotations.clone());
                api.replace(&map).await
            }
        };
        match outcome {
            Err(error) if !error.is_already_exists() && !is_namespace_terminating(&error) => {
                Err(error.into())
            }
            _ => Ok(Action::AwaitChange),
        }
    }
}
