use super::*;
use crate::{
    Api, ObjectKey,
    client::Patch,
    selector::LabelSelector,
    testing::{FakeApi, FaultClient, Faults, builders::pod, sim_env},
};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

type State = BTreeMap<ObjectKey, String>;

/// A copy kept only from the changes handed to a handler.
fn follow(informer: &Informer<Pod>) -> Arc<Mutex<State>> {
    let state = Arc::new(Mutex::new(State::new()));
    let copy = state.clone();
    informer.on_change(move |delta| {
        let mut state = copy.lock();
        let object = delta.object();
        let (key, version) = (
            ObjectKey::of(&**object),
            object.metadata.resource_version.clone().unwrap_or_default(),
        );
        match delta {
            Delta::Added(_) => assert!(state.insert(key, version).is_none(), "added twice"),
            Delta::Updated { old, .. } => {
                let before = state.insert(key, version);
                assert_eq!(
                    before, old.metadata.resource_version,
                    "an update from an unknown state"
                );
            }
            Delta::Deleted(_) => assert!(state.remove(&key).is_some(), "deleted but never added"),
        }
    });
    state
}

fn truth(api: &FakeApi) -> State {
    api.dump("pods")
        .iter()
        .map(|o| (o.key(), o.resource_version().to_owned()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn copies_follows_indexes_and_selects() {
    let env = sim_env(1);
    let api = FakeApi::new(&env);
    api.seed(pod("n", "a").label("app", "x").node("n1").build()).await;
    let shutdown = Shutdown::new();
    let informers = SharedInformers::new(&env, api.clone(), &shutdown);
    let informer = informers.informer::<Pod>();
    assert!(!informer.has_synced());
    informer.add_index("node", |p: &Pod| {
        p.spec.iter().filter_map(|s| s.node_name.clone()).collect()
    });
    let state = follow(&informer);
    informers.wait_synced().await;
    let lister = informers.lister::<Pod>();
    assert_eq!(lister.list().len(), 1);
    api.seed(pod("m", "b").label("app", "y").node("n1").build()).await;
    api.seed(pod("n", "c").label("app", "y").build()).await;
    env.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(lister.by_index("node", "n1").len(), 2);
    assert_eq!(lister.list_in("n").len(), 2);
    assert_eq!(
        lister
            .select_in("n", &LabelSelector::parse("app=y").unwrap())
            .len(),
        1
    );
    let pods: Api<Pod> = Api::namespaced(api.clone(), "m");
    pods.patch("b", Patch::merge(json!({"spec": {"nodeName": "n2"}})))
        .await
        .unwrap();
    pods.delete("b", json!({"gracePeriodSeconds": 0})).await.unwrap();
    env.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(lister.by_index("node", "n1").len(), 1);
    assert!(lister.by_index("node", "n2").is_empty());
    assert_eq!(*state.lock(), truth(&api));
    // A late handler gets what is there.
    assert_eq!(*follow(&informer).lock(), truth(&api));
    shutdown.trigger();
}

#[tokio::test(start_paused = true)]
async fn ends_equal_to_the_collection_whatever_happens_to_the_watch() {
    for seed in 0..20 {
        let env = sim_env(seed);
        let api = FakeApi::new(&env);
        let faulty = FaultClient::new(&env, api.clone());
        faulty.set(Faults {
            error_before: 0.3,
            watch_break: 0.3,
            delay_max: Duration::from_millis(50),
            error_after: 0.0,
        });
        let shutdown = Shutdown::new();
        let informer = Informer::<Pod>::start(&env, faulty.clone(), InformerScope::default(), &shutdown);
        let state = follow(&informer);
        let pods: Api<Pod> = Api::namespaced(api.clone(), "n");
        for step in 0..120 {
            let name = format!("p{}", env.rng.below(6));
            match env.rng.below(3) {
                0 => drop(pods.create(&pod("n", &name).build()).await),
                1 => drop(
                    pods.patch(
                        &name,
                        Patch::merge(json!({"metadata": {"labels": {"s": step.to_string()}}})),
                    )
                    .await,
                ),
                _ => drop(pods.delete(&name, Value::Null).await),
            }
            if env.rng.below(20) == 0 {
                api.compact();
            }
            env.clock.sleep(Duration::from_millis(env.rng.below(400))).await;
        }
        faulty.set(Faults::default());
        env.clock.sleep(Duration::from_secs(120)).await;
        assert_eq!(*state.lock(), truth(&api), "seed {seed}");
        shutdown.trigger();
    }
}

#[tokio::test(start_paused = true)]
async fn a_scope_limits_the_copy() {
    let env = sim_env(1);
    let api = FakeApi::new(&env);
    api.seed(pod("n", "a").node("n1").build()).await;
    api.seed(pod("n", "b").node("n2").build()).await;
    let shutdown = Shutdown::new();
    let scope = InformerScope {
        fields: "spec.nodeName=n1".into(),
        ..InformerScope::default()
    };
    let informer = Informer::<Pod>::start(&env, api.clone(), scope, &shutdown);
    informer.wait_synced().await;
    let names: Vec<_> = informer
        .lister()
        .list()
        .iter()
        .filter_map(|p| p.metadata.name.clone())
        .collect();
    assert_eq!(names, ["a"]);
    shutdown.trigger();
}
