//! What every [`ApiClient`] promises, as cases that run over any of them.
//!
//! An implementor provides an [`ApiHarness`] and runs [`run_all`], or one test per case over [`CASES`]. A case answers
//! with what went wrong. Cases work with ConfigMaps in namespaces of their own, so they can share a server.

mod cases;
mod watch_cases;

use crate::{Api, Env, Status, client::ApiClient, client::ListParams};
use async_trait::async_trait;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// A server under test.
#[async_trait]
pub trait ApiHarness: Send + Sync {
    /// A client that may do everything.
    fn client(&self) -> Arc<dyn ApiClient>;
    /// The environment the server runs in.
    fn env(&self) -> Env;
    /// Makes watches from revisions before now expire. `false` if that can't be done: the case is skipped.
    async fn compact(&self) -> bool {
        false
    }
    /// How long to wait at most for a bookmark on an idle watch; `None` to skip the case.
    fn bookmark_within(&self) -> Option<Duration> {
        None
    }
}

/// How a case ended: with nothing, or what is wrong.
pub type Outcome = Result<(), String>;
/// A case.
pub type Case = for<'a> fn(&'a dyn ApiHarness) -> BoxFuture<'a, Outcome>;

/// All cases by name.
pub const CASES: &[(&str, Case)] = &[
    ("create_sets_metadata_and_refuses_twins", |h| {
        Box::pin(cases::create(h))
    }),
    ("absent_objects_are_not_found", |h| Box::pin(cases::absent(h))),
    ("a_stale_replace_conflicts_and_changes_nothing", |h| {
        Box::pin(cases::stale_replace(h))
    }),
    ("concurrent_increments_all_count", |h| {
        Box::pin(cases::increments(h))
    }),
    ("merge_patch_follows_rfc_7386_and_preconditions", |h| {
        Box::pin(cases::merge_patch(h))
    }),
    ("delete_honours_uid_and_finalizers", |h| {
        Box::pin(cases::delete(h))
    }),
    ("generated_names_differ", |h| Box::pin(cases::generate_name(h))),
    ("lists_are_ordered_selected_and_paged", |h| {
        Box::pin(cases::list(h))
    }),
    ("a_watch_from_a_list_misses_and_repeats_nothing", |h| {
        Box::pin(watch_cases::complete(h))
    }),
    ("a_selecting_watch_turns_transitions_into_add_and_delete", |h| {
        Box::pin(watch_cases::selected(h))
    }),
    ("a_watch_without_a_version_starts_with_what_is_there", |h| {
        Box::pin(watch_cases::from_now(h))
    }),
    ("a_compacted_version_expires", |h| {
        Box::pin(watch_cases::expired(h))
    }),
    ("an_idle_watch_gets_bookmarks", |h| {
        Box::pin(watch_cases::bookmarks(h))
    }),
];

/// Runs every case and answers with the failures, by name.
pub async fn run_all(harness: &dyn ApiHarness) -> Vec<(&'static str, String)> {
    let mut failures = Vec::new();
    for (name, case) in CASES {
        if let Err(why) = case(harness).await {
            failures.push((*name, why));
        }
    }
    failures
}

/// One `#[tokio::test]` per case: `api_client_conformance!(start_paused = true, harness_expression)`.
#[macro_export]
macro_rules! api_client_conformance {
    ($harness:expr) => {
        #[tokio::test(start_paused = true)]
        async fn conforms_to_the_client_contract() {
            let harness = $harness;
            let failures = $crate::testing::conformance::run_all(&harness).await;
            assert!(failures.is_empty(), "{failures:#?}");
        }
    };
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(what()) }
}

fn said(status: Status) -> String {
    format!("{} {:?}: {}", status.code, status.reason, status.message)
}

/// A namespace of the case's own, empty.
async fn maps(harness: &dyn ApiHarness, namespace: &str) -> Result<Api<ConfigMap>, String> {
    let namespace = format!("conformance-{namespace}");
    let client = harness.client();
    let object: Namespace =
        serde_json::from_value(json!({"metadata": {"name": namespace}})).map_err(|e| e.to_string())?;
    match Api::<Namespace>::all(client.clone()).create(&object).await {
        Err(error) if !error.is_already_exists() => return Err(said(error)),
        _ => {}
    }
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    // Nobody else writes here; what the cluster itself puts into namespaces is told apart by a label.
    for item in api.list(&labelled("conformance=yes")).await.map_err(said)?.items {
        api.delete(
            item.metadata.name.as_deref().unwrap_or_default(),
            serde_json::Value::Null,
        )
        .await
        .map_err(said)?;
    }
    Ok(api)
}

fn labelled(selector: &str) -> ListParams {
    ListParams {
        labels: selector.into(),
        ..ListParams::default()
    }
}

fn map(name: &str, value: &str) -> ConfigMap {
    let object = json!({"metadata": {"name": name, "labels": {"conformance": "yes"}}, "data": {"v": value}});
    serde_json::from_value(object).unwrap_or_default()
}

fn value(map: &ConfigMap) -> &str {
    map.data
        .as_ref()
        .and_then(|d| d.get("v"))
        .map(String::as_str)
        .unwrap_or_default()
}

fn name(map: &ConfigMap) -> &str {
    map.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
