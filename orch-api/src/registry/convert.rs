//! The few built-in kinds that are served in another version than they are stored in.

use serde_json::{Map, Value, json};

/// Field names of `v1` Event that `events.k8s.io/v1` spells otherwise.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

/// `v1` Event to `events.k8s.io/v1`.
pub(super) fn event_to_group(event: &mut Value) {
    let Some(map) = event.as_object_mut() else { return };
    for (core, group) in EVENT_FIELDS {
        rename(map, core, group);
    }
    map.insert("apiVersion".into(), "events.k8s.io/v1".into());
}

/// `events.k8s.io/v1` Event to `v1`.
pub(super) fn event_to_core(event: &mut Value) {
    let Some(map) = event.as_object_mut() else { return };
    for (core, group) in EVENT_FIELDS {
        rename(map, group, core);
    }
    map.insert("apiVersion".into(), "v1".into());
}

/// Annotation under which the metrics that `autoscaling/v1` has no field for survive a round trip.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

fn is_cpu_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"]["target"]["type"] == "Utilization"
}

/// `autoscaling/v2` HorizontalPodAutoscaler to `autoscaling/v1`.
pub(super) fn autoscaler_to_v1(hpa: &mut Value) {
    hpa["apiVersion"] = "autoscaling/v1".into();
    if let Some(spec) = hpa.get_mut("spec").and_then(Value::as_object_mut) {
        let mut metrics = match spec.remove("metrics") {
            Some(Value::Array(metrics)) => metrics,
            _ => Vec::new(),
        };
        spec.remove("behavior");
        if let Some(at) = metrics.iter().position(is_cpu_utilization) {
            let cpu = metrics.remove(at);
            let target = cpu["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".into(), target);
        }
        if !metrics.is_empty() {
            let text = Value::from(metrics).to_string();
            super::meta::meta_mut(hpa)
                .entry("annotations")
                .or_insert_with(|| json!({}))[METRICS] = text.into();
        }
    }
    if let Some(status) = hpa.get_mut("status").and_then(Value::as_object_mut) {
        let current = status.remove("currentMetrics").unwrap_or_default();
        status.remove("conditions");
        let cpu = current
            .as_array()
            .into_iter()
            .flatten()
            .find(|m| m["type"] == "Resource" && m["resource"]["name"] == "cpu");
        if let Some(value) = cpu
            .map(|m| m["resource"]["current"]["averageUtilization"].clone())
            .filter(|v| !v.is_null())
        {
            status.insert("currentCPUUtilizationPercentage".into(), value);
        }
    }
}

/// `autoscaling/v1` HorizontalPodAutoscaler to `autoscaling/v2`.
pub(super) fn autoscaler_to_v2(hpa: &mut Value) {
    hpa["apiVersion"] = "autoscaling/v2".into();
    let meta = super::meta::meta_mut(hpa);
    let saved = meta
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
        .and_then(|a| a.remove(METRICS));
    let saved = saved
        .as_ref()
        .and_then(Value::as_str)
        .and_then(|t| serde_json::from_str::<Value>(t).ok());
    let mut metrics: Vec<Value> = saved.and_then(|v| v.as_array().cloned()).unwrap_or_default();
    if let Some(spec) = hpa.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(percent) = spec
            .remove("targetCPUUtilizationPercentage")
            .filter(|v| !v.is_null())
        {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            metrics.insert(
                0,
                json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}),
            );
        }
        if !metrics.is_empty() {
            spec.insert("metrics".into(), metrics.into());
        }
    }
    if let Some(status) = hpa.get_mut("status").and_then(Value::as_object_mut)
        && let Some(percent) = status
            .remove("currentCPUUtilizationPercentage")
            .filter(|v| !v.is_null())
    {
        let current = json!({"averageUtilization": percent});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "current": current}});
        status.insert("currentMetrics".into(), json!([metric]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "message": "m", "count": 2,
            "involvedObject": {"kind": "Pod"}, "reportingComponent": "x"});
        let mut event = core.clone();
        event_to_group(&mut event);
        assert_eq!(
            (&event["note"], &event["regarding"]["kind"]),
            (&json!("m"), &json!("Pod"))
        );
        event_to_core(&mut event);
        assert_eq!(event, core);

        let v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}});
        let mut hpa = v1.clone();
        autoscaler_to_v2(&mut hpa);
        assert_eq!(
            hpa["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
            80
        );
        autoscaler_to_v1(&mut hpa);
        assert_eq!(hpa, v1);
    }
}
