//! `/healthz`, `/livez`, `/readyz`: `ok`, or which check failed
//! (<https://kubernetes.io/docs/reference/using-api/health-checks/>).

use super::{not_found, raw};
use crate::server::{ApiServer, RawEndpoint};
use async_trait::async_trait;
use futures::future::BoxFuture;
use orch_core::{
    Status, UserInfo,
    client::{ApiRequest, ApiResponse},
    spawn::Shutdown,
};
use std::{collections::BTreeSet, fmt::Write, sync::Arc, time::Duration};

/// A store that takes longer than this is not healthy.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

type Run = dyn Fn(&ApiServer) -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// A named condition of health: `Err` says why it does not hold, for the log only.
#[derive(Clone)]
pub struct Check {
    name: String,
    run: Arc<Run>,
    /// Asked for readiness only: a server that fails it must not be restarted for it.
    readiness_only: bool,
}

impl Check {
    /// A check for all three paths.
    pub fn new(
        name: impl Into<String>,
        run: impl Fn(&ApiServer) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            run: Arc::new(run),
            readiness_only: false,
        }
    }
    /// The same check for `/readyz` alone.
    #[must_use]
    pub fn for_readiness(mut self) -> Self {
        self.readiness_only = true;
        self
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Check({})", self.name)
    }
}

/// Serves the health paths.
#[derive(Debug)]
pub struct Health(Vec<Check>);

impl Health {
    /// The server's own checks (`ping`, `etcd` as upstream calls the store, `shutdown`), and `more`.
    #[must_use]
    pub fn new(shutdown: Shutdown, more: Vec<Check>) -> Arc<Self> {
        let ping = Check::new("ping", |_| Box::pin(async { Ok(()) }));
        let store = Check::new("etcd", |server| {
            let (store, clock) = (server.store().clone(), server.env().clock.clone());
            Box::pin(async move {
                tokio::select! {
                    result = store.status() => result.map(drop).map_err(|e| e.to_string()),
                    () = clock.sleep(STORE_TIMEOUT) => Err("the store does not answer in time".into()),
                }
            })
        });
        let stopping = Check::new("shutdown", move |_| {
            let stopping = shutdown.is_triggered();
            Box::pin(async move {
                if stopping {
                    Err("process is shutting down".into())
                } else {
                    Ok(())
                }
            })
        });
        Arc::new(Self(
            [ping, store, stopping.for_readiness()]
                .into_iter()
                .chain(more)
                .collect(),
        ))
    }
}

#[async_trait]
impl RawEndpoint for Health {
    async fn call(
        &self,
        server: &ApiServer,
        _: &UserInfo,
        request: ApiRequest,
    ) -> Result<ApiResponse, Status> {
        let mut parts = request.path.trim_matches('/').splitn(2, '/');
        let (endpoint, one) = (parts.next().unwrap_or_default(), parts.next());
        let asked = |c: &&Check| endpoint == "readyz" || !c.readiness_only;
        if let Some(one) = one {
            let check = self.0.iter().find(|c| c.name == one).ok_or_else(not_found)?;
            return Ok(match (check.run)(server).await {
                Ok(()) => raw("text/plain; charset=utf-8", "ok"),
                Err(why) => failed(format!("internal server error: {why}\n")),
            });
        }
        let mut excluded: BTreeSet<&str> = request
            .query
            .iter()
            .filter(|(n, _)| n == "exclude")
            .map(|(_, v)| v.as_str())
            .collect();
        let mut report = String::new();
        let mut failures = Vec::new();
        for check in self.0.iter().filter(asked) {
            // Writing to a String cannot fail.
            let _ = if excluded.remove(check.name.as_str()) {
                writeln!(report, "[+]{} excluded: ok", check.name)
            } else {
                match (check.run)(server).await {
                    Ok(()) => writeln!(report, "[+]{} ok", check.name),
                    Err(why) => {
                        tracing::warn!(check = %check.name, %why, "{endpoint} check failed");
                        failures.push(check.name.as_str());
                        writeln!(report, "[-]{} failed: reason withheld", check.name)
                    }
                }
            };
        }
        if !excluded.is_empty() {
            let unknown: Vec<String> = excluded.iter().map(|e| format!("{e:?}")).collect();
            let list = unknown.join(", ");
            let _ = writeln!(
                report,
                "warn: some health checks cannot be excluded: no matches for {list}"
            );
        }
        if !failures.is_empty() {
            return Ok(failed(format!("{report}{endpoint} check failed\n")));
        }
        if request.query_value("verbose").is_none() {
            return Ok(raw("text/plain; charset=utf-8", "ok"));
        }
        Ok(raw(
            "text/plain; charset=utf-8",
            format!("{report}{endpoint} check passed\n"),
        ))
    }
}

fn failed(text: String) -> ApiResponse {
    ApiResponse {
        code: 500,
        ..raw("text/plain; charset=utf-8", text)
    }
}
