//! The ServiceAccount `default` in each namespace. Behaviour of upstream's `serviceaccounts_controller`.

use crate::shared::{Context, is_deleting, text, write::is_namespace_terminating};
use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{Namespace, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use orch_core::{
    ObjectKey,
    controller::{Action, Controller, Error, Reconciler},
    informer::{Delta, Lister},
};
use std::sync::Arc;

struct ServiceAccounts {
    ctx: Context,
    namespaces: Lister<Namespace>,
    accounts: Lister<ServiceAccount>,
}

/// The ServiceAccount controller. Its keys are namespaces.
#[must_use]
pub fn controller(ctx: &Context) -> Controller {
    let namespaces = ctx.informers.informer::<Namespace>();
    let accounts = ctx.informers.informer::<ServiceAccount>();
    let reconciler = Arc::new(ServiceAccounts {
        ctx: ctx.clone(),
        namespaces: namespaces.lister(),
        accounts: accounts.lister(),
    });
    Controller::new("serviceaccount", &ctx.env, reconciler)
        .watch(&namespaces)
        .watch_mapped(&accounts, |delta: &Delta<ServiceAccount>| match delta {
            Delta::Deleted(account) => vec![ObjectKey::new("", text(&account.metadata.namespace))],
            _ => Vec::new(),
        })
}

#[async_trait]
impl Reconciler for ServiceAccounts {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let alive = self
            .namespaces
            .get(key)
            .is_some_and(|n| !is_deleting(&n.metadata));
        if !alive || self.accounts.find(&key.name, "default").is_some() {
            return Ok(Action::AwaitChange);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some("default".into()),
                namespace: Some(key.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match self.ctx.api::<ServiceAccount>(&key.name).create(&account).await {
            Err(error) if !error.is_already_exists() && !is_namespace_terminating(&error) => {
                Err(error.into())
            }
            _ => Ok(Action::AwaitChange),
        }
    }
}
