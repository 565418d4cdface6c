//! ConfigMaps and Secrets that pods of this node refer to: one watch for each, while a pod wants it.

use super::spec;
use crate::{
    env::{self, Sources},
    volume,
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use orch_core::{
    Env,
    client::{ApiClient, NamespacedOrCluster},
    informer::{Informer, InformerScope},
    spawn::Shutdown,
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

/// How long the first look at an object may take.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// Names of the pod's registry credentials.
pub(crate) fn pull_secrets(pod: &Pod) -> Vec<String> {
    let listed = spec::spec(pod).image_pull_secrets.iter().flatten();
    listed.map(|r| r.name.clone()).filter(|n| !n.is_empty()).collect()
}

type Key = (&'static str, String, String);

enum Watched {
    ConfigMap(Informer<ConfigMap>),
    Secret(Informer<Secret>),
}

struct Entry {
    watched: Watched,
    stop: Shutdown,
    pods: BTreeSet<String>,
}

/// The watches. Node credentials may read these objects one by one, by name.
pub(crate) struct Objects {
    env: Env,
    client: Arc<dyn ApiClient>,
    changed: Box<dyn Fn(&str) + Send + Sync>,
    entries: Mutex<BTreeMap<Key, Entry>>,
    this: Weak<Self>,
}

impl Objects {
    /// `changed` is called with the UID of each pod that refers to an object that changed.
    pub(crate) fn new(
        env: Env,
        client: Arc<dyn ApiClient>,
        changed: impl Fn(&str) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            env,
            client,
            changed: Box::new(changed),
            entries: Mutex::default(),
            this: this.clone(),
        })
    }

    fn watch<K: NamespacedOrCluster>(&self, key: &Key, stop: &Shutdown) -> Informer<K> {
        let scope = InformerScope {
            namespace: Some(key.1.clone()),
            labels: String::new(),
            fields: format!("metadata.name={}", key.2),
        };
        let informer = Informer::<K>::start(&self.env, self.client.clone(), scope, stop);
        let (this, key) = (self.this.clone(), key.clone());
        informer.on_change(move |_| {
            let Some(this) = this.upgrade() else { return };
            // Nobody waits here before the entry is in the map.
            let pods = this
                .entries
                .lock()
                .get(&key)
                .map(|e| e.pods.clone())
                .unwrap_or_default();
            pods.iter().for_each(|uid| (this.changed)(uid));
        });
        informer
    }

    /// What the pod refers to, as it is now. What does not exist is not there.
    ///
    /// # Errors
    /// A message if the API server does not answer in time.
    pub(crate) async fn sources(&self, pod: &Pod) -> Result<Sources, String> {
        let (uid, namespace) = (spec::uid(pod), spec::namespace(pod));
        let ((maps, secrets), (more_maps, more_secrets)) = (env::references(pod), volume::references(pod));
        let keys: BTreeSet<Key> = maps
            .into_iter()
            .chain(more_maps)
            .map(|name| ("configmap", namespace.to_owned(), name))
            .chain(
                secrets
                    .into_iter()
                    .chain(more_secrets)
                    .chain(pull_secrets(pod))
                    .map(|name| ("secret", namespace.to_owned(), name)),
            )
            .collect();
        for key in &keys {
            let known = self
                .entries
                .lock()
                .get_mut(key)
                .map(|e| e.pods.insert(uid.to_owned()))
                .is_some();
            if known {
                continue;
            }
            let stop = Shutdown::new();
            let watched = match key.0 {
                "configmap" => Watched::ConfigMap(self.watch(key, &stop)),
                _ => Watched::Secret(self.watch(key, &stop)),
            };
            let mut entries = self.entries.lock();
            // Two pods may have come at once; the second's watch is not needed.
            match entries.get_mut(key) {
                Some(entry) => {
                    stop.trigger();
                    entry.pods.insert(uid.to_owned());
                }
                None => {
                    entries.insert(
                        key.clone(),
                        Entry {
                            watched,
                            stop,
                            pods: [uid.to_owned()].into(),
                        },
                    );
                }
            }
        }
        let mut sources = Sources::default();
        let mut limit = self.env.clock.sleep(FIRST_LOOK);
        for key in &keys {
            let (kind, _, name) = key;
            let late = || format!("failed to sync {kind} cache: timed out waiting for the condition");
            let informer = match self.entries.lock().get(key).map(|e| &e.watched) {
                Some(Watched::ConfigMap(i)) => Ok(i.clone()),
                Some(Watched::Secret(i)) => Err(i.clone()),
                None => continue,
            };
            match informer {
                Ok(maps) => {
                    tokio::select! { () = maps.wait_synced() => {}, () = &mut limit => return Err(late()) }
                    sources
                        .config_maps
                        .extend(maps.lister().find(namespace, name).map(|m| (name.clone(), m)));
                }
                Err(secrets) => {
                    tokio::select! { () = secrets.wait_synced() => {}, () = &mut limit => return Err(late()) }
                    sources
                        .secrets
                        .extend(secrets.lister().find(namespace, name).map(|s| (name.clone(), s)));
                }
            }
        }
        Ok(sources)
    }

    /// The pod wants nothing any more.
    pub(crate) fn release(&self, uid: &str) {
        self.entries.lock().retain(|_, entry| {
            entry.pods.remove(uid);
            if entry.pods.is_empty() {
                entry.stop.trigger();
            }
            !entry.pods.is_empty()
        });
    }
}
