//! Keeps a cache equal to a collection: the list-and-watch loop.

use super::{InformerScope, RawInformer};
use crate::{
    Env, GroupVersionResource, Status,
    client::{ApiClient, ApiRequest, ResponseBody, WatchEventType},
    status::StatusReason,
    workqueue::Backoff,
};
use futures::StreamExt;
use std::{sync::Arc, time::Duration};

/// A watch that ends sooner than this without an event counts as a failure, or the loop would spin.
const SHORT_WATCH: Duration = Duration::from_secs(1);

pub(super) struct Reflector {
    env: Env,
    client: Arc<dyn ApiClient>,
    gvr: GroupVersionResource,
    scope: InformerScope,
    target: Arc<RawInformer>,
}

/// How a watch ended.
enum End {
    /// Watch again from the last revision, after a delay if `backoff`.
    Resume { backoff: bool },
    /// List again.
    Relist,
}

impl Reflector {
    pub(super) fn new(
        env: Env,
        client: Arc<dyn ApiClient>,
        gvr: GroupVersionResource,
        scope: InformerScope,
        target: Arc<RawInformer>,
    ) -> Self {
        Self {
            env,
            client,
            gvr,
            scope,
            target,
        }
    }

    fn request(&self) -> ApiRequest {
        let mut request = ApiRequest::get(self.gvr.collection_path(self.scope.namespace.as_deref()));
        for (name, value) in [
            ("labelSelector", &self.scope.labels),
            ("fieldSelector", &self.scope.fields),
        ] {
            if !value.is_empty() {
                request = request.param(name, value);
            }
        }
        request
    }

    /// Runs until dropped.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            if let Err(error) = self.list().await {
                tracing::warn!(resource = %self.gvr, %error, "list failed");
                backoff.wait(&self.env).await;
                continue;
            }
            loop {
                match self.watch().await {
                    End::Resume { backoff: false } => backoff.reset(),
                    End::Resume { backoff: true } => backoff.wait(&self.env).await,
                    End::Relist => {
                        backoff.wait(&self.env).await;
                        break;
                    }
                }
            }
        }
    }

    async fn list(&self) -> Result<(), Status> {
        match self.client.call(self.request()).await?.body {
            ResponseBody::List {
                resource_version,
                items,
                ..
            } => {
                self.target.replace(items, resource_version);
                Ok(())
            }
            other => Err(Status::new(
                StatusReason::InternalError,
                format!("expected a list, got {other:?}"),
            )),
        }
    }

    async fn watch(&self) -> End {
        // Spread over 5 to 10 minutes, as upstream: the server ends the watch, and a dead connection is noticed.
        let timeout_s = 300 + self.env.rng.below(300);
        let request = self
            .request()
            .param("watch", "true")
            .param("allowWatchBookmarks", "true")
            .param("resourceVersion", self.target.resource_version())
            .param("timeoutSeconds", timeout_s.to_string());
        let started = self.env.clock.monotonic();
        let mut events = match self.client.watch(request).await {
            Ok(events) => events,
            Err(error) => return self.failed(&error),
        };
        let deadline = started + Duration::from_secs(timeout_s + 30);
        let mut progress = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = self.env.clock.sleep_until(deadline) => return End::Resume { backoff: false },
            };
            match event {
                None => {
                    let short = self.env.clock.monotonic().since(started) < SHORT_WATCH;
                    return End::Resume {
                        backoff: short && !progress,
                    };
                }
                Some(Err(error)) => return self.failed(&error),
                Some(Ok(event)) => {
                    progress |= event.kind != WatchEventType::Bookmark;
                    self.target.apply(&event);
                }
            }
        }
    }

    fn failed(&self, error: &Status) -> End {
        if error.is_expired() {
            tracing::debug!(resource = %self.gvr, %error, "listing again");
            return End::Relist;
        }
        tracing::warn!(resource = %self.gvr, %error, "watch failed");
        End::Resume { backoff: true }
    }
}
