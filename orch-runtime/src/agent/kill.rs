//! How containers are ended: grace periods and their order; pure.

use super::{spec, step::KillReason};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::{collections::BTreeMap, time::Duration};

/// Even a pod without grace gets this long before the kill signal.
pub const MIN_GRACE: Duration = Duration::from_secs(2);

/// Time that a container has from the start of its end to the kill signal, hooks included.
#[must_use]
pub fn grace(pod: &Pod, container: Option<&Container>, reason: KillReason) -> Duration {
    let seconds = |n: i64| Duration::from_secs(u64::try_from(n).unwrap_or(0));
    if let Some(n) = pod.metadata.deletion_grace_period_seconds {
        return seconds(n);
    }
    let probe = container.and_then(|c| match reason {
        KillReason::Liveness => c.liveness_probe.as_ref(),
        KillReason::Startup => c.startup_probe.as_ref(),
        KillReason::Other => None,
    });
    let own = probe.and_then(|p| p.termination_grace_period_seconds);
    own.or(spec::spec(pod).termination_grace_period_seconds)
        .map_or(MIN_GRACE, seconds)
}

/// For each running container by name: whose end it waits for. Sidecars end after all ordinary containers, the last
/// started first (KEP-753).
#[must_use]
pub fn order(pod: &Pod, running: &[String]) -> BTreeMap<String, Vec<String>> {
    let spec = spec::spec(pod);
    let runs = |name: &str| running.iter().any(|r| r == name);
    let mut before: Vec<String> = spec
        .containers
        .iter()
        .map(|c| c.name.clone())
        .filter(|name| runs(name))
        .collect();
    let mut out: BTreeMap<String, Vec<String>> =
        running.iter().map(|name| (name.clone(), Vec::new())).collect();
    for sidecar in spec::init_containers(spec)
        .iter()
        .rev()
        .filter(|c| spec::is_sidecar(c) && runs(&c.name))
    {
        out.insert(sidecar.name.clone(), before.clone());
        before.push(sidecar.name.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::testkit::pod;
    use serde_json::json;

    #[test]
    fn grace_periods() {
        let mut p = pod(json!({"terminationGracePeriodSeconds": 30, "containers": [
            {"name": "a", "livenessProbe": {"terminationGracePeriodSeconds": 5}}]}));
        let container = spec::spec(&p).containers[0].clone();
        let of = |p: &Pod, reason| grace(p, Some(&container), reason).as_secs();
        assert_eq!(of(&p, KillReason::Other), 30);
        assert_eq!(of(&p, KillReason::Liveness), 5);
        assert_eq!(of(&p, KillReason::Startup), 30);
        p.metadata.deletion_grace_period_seconds = Some(1);
        assert_eq!(of(&p, KillReason::Liveness), 1);
    }

    #[test]
    fn sidecars_end_last_and_in_reverse() {
        let side = |n: &str| json!({"name": n, "restartPolicy": "Always"});
        let p = pod(
            json!({"initContainers": [side("s"), {"name": "i"}, side("t")], "containers": [{"name": "a"}, {"name": "b"}]}),
        );
        let got = order(&p, &["a".into(), "s".into(), "t".into()]);
        assert_eq!(got["a"], Vec::<String>::new());
        assert_eq!(got["t"], ["a"]);
        assert_eq!(got["s"], ["a", "t"]);
    }
}
