//! Leader election on a `coordination.k8s.io/v1` Lease, with upstream's rules and timings.
//!
//! The holder writes the time it renewed; a candidate takes over once it has seen the same record for a whole lease
//! duration on *its own* clock, so clocks need not agree. Two holders at a time are possible only if one of them is
//! stopped for longer than the lease lasts; its writes are then fenced by nothing but resource versions.

use crate::{Api, Env, Status, client::ApiClient, clock::Monotonic, spawn::Shutdown};
use futures::future::BoxFuture;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use std::{sync::Arc, time::Duration};

/// Which lease, who asks, and the times.
#[derive(Debug, Clone)]
pub struct LeaderConfig {
    /// Namespace of the lease, in most cases `kube-system`.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// Who asks; unique among the candidates.
    pub identity: String,
    /// How long others wait after the last renewal they saw. Upstream: 15 s.
    pub lease_duration: Duration,
    /// How long the holder tries to renew before it gives up. Upstream: 10 s.
    pub renew_deadline: Duration,
    /// Pause between attempts. Upstream: 2 s.
    pub retry_period: Duration,
    /// Give the lease up at shutdown, so that another need not wait.
    pub release: bool,
}

impl LeaderConfig {
    /// Upstream's times, with release at shutdown.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            release: true,
        }
    }
}

/// How a term of leadership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadershipEnd {
    /// The work ended by itself, or shutdown was asked for.
    Finished,
    /// The lease could not be renewed in time. The work was told to stop and has stopped.
    Lost,
}

struct Elector {
    env: Env,
    api: Api<Lease>,
    config: LeaderConfig,
    /// The last record seen and when it was first seen.
    observed: Option<(Arc<Lease>, Monotonic)>,
}

/// Waits until this candidate leads, then runs `work` until it ends, leadership is lost, or `shutdown`. `work` gets a
/// signal that tells it to stop; it must, before the lease runs out.
pub async fn lead(
    env: &Env,
    client: Arc<dyn ApiClient>,
    config: LeaderConfig,
    shutdown: &Shutdown,
    work: impl FnOnce(Shutdown) -> BoxFuture<'static, ()>,
) -> LeadershipEnd {
    let api = Api::namespaced(client, config.namespace.clone());
    let mut elector = Elector {
        env: env.clone(),
        api,
        config,
        observed: None,
    };
    tokio::select! {
        () = elector.acquire() => {}
        () = shutdown.wait() => return LeadershipEnd::Finished,
    }
    tracing::info!(
        lease = elector.config.name,
        identity = elector.config.identity,
        "leading"
    );
    let stop = Shutdown::new();
    let mut work = work(stop.clone());
    let end = tokio::select! {
        () = &mut work => LeadershipEnd::Finished,
        () = elector.renew_until_lost() => {
            tracing::warn!(lease = elector.config.name, "leadership lost");
            stop.trigger();
            work.await;
            LeadershipEnd::Lost
        }
        () = shutdown.wait() => {
            stop.trigger();
            work.await;
            LeadershipEnd::Finished
        }
    };
    if end == LeadershipEnd::Finished && elector.config.release {
        elector.release().await;
    }
    end
}

impl Elector {
    async fn acquire(&mut self) {
        loop {
            match self.try_acquire_or_renew().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(lease = self.config.name, %error, "not acquired"),
            }
            // Spread, so that candidates do not march in step.
            let pause = self.config.retry_period.mul_f64(1.0 + 1.2 * self.env.rng.unit());
            self.env.clock.sleep(pause).await;
        }
    }

    async fn renew_until_lost(&mut self) {
        let mut renewed = self.env.clock.monotonic();
        loop {
            self.env.clock.sleep(self.config.retry_period).await;
            let deadline = renewed + self.config.renew_deadline;
            let attempt_at = self.env.clock.monotonic();
            let clock = self.env.clock.clone();
            let outcome = tokio::select! {
                outcome = self.try_acquire_or_renew() => outcome,
                () = clock.sleep_until(deadline) => return,
            };
            match outcome {
                Ok(true) => renewed = attempt_at,
                Ok(false) => return,
                Err(error) => tracing::debug!(lease = self.config.name, %error, "not renewed"),
            }
            if self.env.clock.monotonic() >= deadline {
                return;
            }
        }
    }

    fn record(&self, old: Option<&Lease>) -> Lease {
        let now = MicroTime(self.env.clock.now());
        let old_spec = old.and_then(|l| l.spec.clone()).unwrap_or_default();
        let mine = old_spec.holder_identity.as_deref() == Some(&self.config.identity);
        let transitions = old_spec.lease_transitions.unwrap_or(0);
        let acquire_time = if mine { old_spec.acquire_time.clone() } else { None };
        let metadata = old.map_or_else(
            || ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(self.config.namespace.clone()),
                ..ObjectMeta::default()
            },
            |l| l.metadata.clone(),
        );
        Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.config.identity.clone()),
                lease_duration_seconds: i32::try_from(self.config.lease_duration.as_secs())
                    .ok()
                    .map(|s| s.max(1)),
                acquire_time: acquire_time.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(if mine || old.is_none() {
                    transitions
                } else {
                    transitions + 1
                }),
                ..old_spec
            }),
        }
    }

    /// `Ok(false)`: somebody else holds it.
    async fn try_acquire_or_renew(&mut self) -> Result<bool, Status> {
        let held = match self.api.get_opt(&self.config.name).await? {
            Some(held) => held,
            None => {
                let created = self.api.create(&self.record(None)).await?;
                self.observe(created);
                return Ok(true);
            }
        };
        self.observe(held.clone());
        let spec = held.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if !holder.is_empty() && holder != self.config.identity && !self.expired(spec.lease_duration_seconds)
        {
            return Ok(false);
        }
        let written = self.api.replace(&self.record(Some(&held))).await?;
        self.observe(written);
        Ok(true)
    }

    fn observe(&mut self, lease: Arc<Lease>) {
        let known = self
            .observed
            .as_ref()
            .is_some_and(|(seen, _)| seen.spec == lease.spec);
        if !known {
            self.observed = Some((lease, self.env.clock.monotonic()));
        }
    }

    fn expired(&self, duration_s: Option<i32>) -> bool {
        let duration = Duration::from_secs(u64::try_from(duration_s.unwrap_or(0)).unwrap_or(0));
        self.observed
            .as_ref()
            .is_none_or(|(_, since)| self.env.clock.monotonic() > *since + duration)
    }

    async fn release(&mut self) {
        let held = match self.api.get_opt(&self.config.name).await {
            Ok(Some(held)) => held,
            _ => return,
        };
        let mut lease = (*held).clone();
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            return;
        }
        let now = MicroTime(self.env.clock.now());
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.acquire_time = Some(now.clone());
        spec.renew_time = Some(now);
        if let Err(error) = self.api.replace(&lease).await {
            tracing::debug!(lease = self.config.name, %error, "not released");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeApi, FaultClient, Faults, sim_env};
    use parking_lot::Mutex;

    type Log = Arc<Mutex<Vec<(String, Duration)>>>;

    fn candidate(env: &Env, client: Arc<dyn ApiClient>, name: &'static str, log: &Log, stop: &Shutdown) {
        let (env2, log, stop) = (env.clone(), log.clone(), stop.clone());
        let task = async move {
            let config = LeaderConfig::new("kube-system", "test", name);
            let (clock, log2) = (env2.clock.clone(), log.clone());
            let end = lead(&env2, client, config, &stop, move |stop| {
                Box::pin(async move {
                    log2.lock().push((format!("{name} leads"), clock.monotonic().0));
                    stop.wait().await;
                })
            })
            .await;
            log.lock()
                .push((format!("{name} {end:?}"), env2.clock.monotonic().0));
        };
        env.spawner.spawn(name, Box::pin(task));
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_release_hands_over_at_once() {
        let env = sim_env(1);
        let api = FakeApi::new(&env);
        let log = Log::default();
        let (stop_a, stop_b) = (Shutdown::new(), Shutdown::new());
        candidate(&env, api.clone(), "a", &log, &stop_a);
        env.clock.sleep(Duration::from_secs(1)).await;
        candidate(&env, api.clone(), "b", &log, &stop_b);
        env.clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(log.lock().len(), 1, "{log:?}");
        stop_a.trigger();
        env.clock.sleep(Duration::from_secs(7)).await;
        let names: Vec<String> = log.lock().iter().map(|(n, _)| n.clone()).collect();
        assert_eq!(names, ["a leads", "a Finished", "b leads"]);
        stop_b.trigger();
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_off_leader_stops_before_another_leads() {
        let env = sim_env(2);
        let api = FakeApi::new(&env);
        let cut = FaultClient::new(&env, api.clone());
        let log = Log::default();
        let stop = Shutdown::new();
        candidate(&env, cut.clone(), "a", &log, &stop);
        env.clock.sleep(Duration::from_secs(1)).await;
        candidate(&env, api.clone(), "b", &log, &stop);
        env.clock.sleep(Duration::from_secs(20)).await;
        cut.set(Faults {
            error_before: 1.0,
            ..Faults::default()
        });
        env.clock.sleep(Duration::from_secs(40)).await;
        let log = log.lock().clone();
        let at = |what: &str| {
            log.iter()
                .find(|(n, _)| n == what)
                .unwrap_or_else(|| panic!("{what}: {log:?}"))
                .1
        };
        assert!(at("a Lost") < at("b leads"), "{log:?}");
        assert!(at("b leads") - at("a Lost") >= Duration::from_secs(3), "{log:?}");
        stop.trigger();
    }
}
