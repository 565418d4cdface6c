use super::*;
use crate::{
    client::{ApiRequest, ApiResponse, EventStream, RequestBody, Upgraded, WatchEventType},
    testing::{FakeApi, sim_env},
};
use futures::StreamExt;
use http::Method;

struct Harness {
    env: Env,
    api: Arc<FakeApi>,
    client: Arc<dyn ApiClient>,
}

#[async_trait]
impl ApiHarness for Harness {
    fn client(&self) -> Arc<dyn ApiClient> {
        self.client.clone()
    }
    fn env(&self) -> Env {
        self.env.clone()
    }
    async fn compact(&self) -> bool {
        self.api.compact();
        true
    }
    fn bookmark_within(&self) -> Option<Duration> {
        Some(Duration::from_secs(120))
    }
}

fn harness(flaw: Option<Flaw>) -> Harness {
    let env = sim_env(3);
    let api = FakeApi::new(&env);
    let client: Arc<dyn ApiClient> = match flaw {
        None => api.clone(),
        Some(flaw) => Arc::new(Flawed {
            inner: api.clone(),
            flaw,
        }),
    };
    Harness { env, api, client }
}

crate::api_client_conformance!(harness(None));

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    LostUpdates,
    DroppedDeletes,
    SwappedEvents,
    NoExpiry,
    NoBookmarks,
    UnorderedLists,
}

struct Flawed {
    inner: Arc<FakeApi>,
    flaw: Flaw,
}

#[async_trait]
impl ApiClient for Flawed {
    async fn call(&self, mut request: ApiRequest) -> Result<ApiResponse, Status> {
        if self.flaw == Flaw::LostUpdates
            && request.method == Method::PUT
            && let RequestBody::Value(value) = &mut request.body
        {
            value["metadata"]["resourceVersion"] = json!("");
        }
        let mut answer = self.inner.call(request).await?;
        if self.flaw == Flaw::UnorderedLists
            && let crate::client::ResponseBody::List { items, .. } = &mut answer.body
        {
            items.reverse();
        }
        Ok(answer)
    }

    async fn watch(&self, mut request: ApiRequest) -> Result<EventStream, Status> {
        let flaw = self.flaw;
        if flaw == Flaw::NoExpiry {
            request.query.retain(|(n, _)| n != "resourceVersion");
        }
        let events = self.inner.watch(request).await?;
        Ok(match flaw {
            Flaw::DroppedDeletes | Flaw::NoBookmarks => events
                .filter(move |e| {
                    let drop = matches!(e, Ok(e) if (e.kind == WatchEventType::Deleted && flaw == Flaw::DroppedDeletes)
                        || (e.kind == WatchEventType::Bookmark && flaw == Flaw::NoBookmarks));
                    futures::future::ready(!drop)
                })
                .boxed(),
            Flaw::SwappedEvents => events
                .chunks(2)
                .flat_map(|pair| futures::stream::iter(pair.into_iter().rev()))
                .boxed(),
            _ => events,
        })
    }

    async fn connect(&self, request: ApiRequest) -> Result<Upgraded, Status> {
        self.inner.connect(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn broken_implementors_fail_by_the_case_that_names_the_promise() {
    for (flaw, case) in [
        (Flaw::LostUpdates, "a_stale_replace_conflicts_and_changes_nothing"),
        (
            Flaw::DroppedDeletes,
            "a_watch_from_a_list_misses_and_repeats_nothing",
        ),
        (
            Flaw::SwappedEvents,
            "a_watch_from_a_list_misses_and_repeats_nothing",
        ),
        (Flaw::NoExpiry, "a_compacted_version_expires"),
        (Flaw::NoBookmarks, "an_idle_watch_gets_bookmarks"),
        (Flaw::UnorderedLists, "lists_are_ordered_selected_and_paged"),
    ] {
        let failures = run_all(&harness(Some(flaw))).await;
        assert!(
            failures.iter().any(|(name, _)| *name == case),
            "{flaw:?}: {failures:?}"
        );
    }
}
