use super::*;

fn gvk(group: &str, kind: &str) -> GroupVersionKind {
    GroupVersionKind::new(group, "v1", kind)
}

#[test]
fn pod_is_born_pending() {
    let mut pod = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}, "spec": {"containers": [
        {"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}}]}});
    prepare_for_create(&gvk("", "Pod"), &mut pod);
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "Guaranteed"})
    );
    assert_eq!(pod["metadata"]["generation"], 1);
}

#[test]
fn qos() {
    let of = |resources: Value| {
        let pod = json!({"spec": {"containers": [{"resources": resources}]}});
        qos_class(&pod)
    };
    assert_eq!(of(json!({})), "BestEffort");
    assert_eq!(of(json!({"requests": {"cpu": "0"}})), "BestEffort");
    assert_eq!(of(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(
        of(json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}})),
        "Burstable"
    );
    assert_eq!(
        of(json!({"limits": {"cpu": "1", "memory": "1"}, "requests": {"cpu": "1", "memory": "1"}})),
        "Guaranteed"
    );
}

#[test]
fn label_keys_are_merged() {
    let mut pod = json!({"metadata": {"labels": {"hash": "x"}}, "spec": {"topologySpreadConstraints": [
        {"matchLabelKeys": ["hash", "gone"], "labelSelector": {"matchLabels": {"a": "b"}}}, {"matchLabelKeys": ["hash"]}]}});
    prepare_for_create(&gvk("", "Pod"), &mut pod);
    let constraints = &pod["spec"]["topologySpreadConstraints"];
    assert_eq!(
        constraints[0]["labelSelector"]["matchExpressions"],
        json!([{"key": "hash", "operator": "In", "values": ["x"]}])
    );
    assert_eq!(constraints[1].get("labelSelector"), None);
}

#[test]
fn deployment_generation_counts_spec_and_annotations() {
    let kind = gvk("apps", "Deployment");
    let old = json!({"metadata": {"generation": 4, "uid": "u", "creationTimestamp": "t"}, "spec": {"replicas": 1},
        "status": {"replicas": 1}});
    let check = |mut new: Value, generation: i64| {
        prepare_for_update(&kind, &mut new, &old);
        assert_eq!(new["metadata"]["generation"], generation, "{new}");
        assert_eq!(new["status"], old["status"]);
        assert_eq!(new["metadata"]["uid"], "u");
        assert_eq!(new["metadata"]["creationTimestamp"], "t");
    };
    check(
        json!({"metadata": {"generation": 99}, "spec": {"replicas": 1}}),
        4,
    );
    check(json!({"spec": {"replicas": 2}}), 5);
    check(
        json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"replicas": 1}, "status": {}}),
        5,
    );
    check(
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}}),
        4,
    );
}

#[test]
fn status_update_keeps_the_spec() {
    let old = json!({"metadata": {"generation": 4, "labels": {"a": "b"}}, "spec": {"replicas": 1}});
    let mut new = json!({"metadata": {}, "spec": {"replicas": 9}, "status": {"replicas": 1}});
    prepare_for_subresource(&gvk("apps", "Deployment"), "status", &mut new, &old);
    assert_eq!(
        new,
        json!({"metadata": {"generation": 4, "labels": {"a": "b"}}, "spec": {"replicas": 1}, "status": {"replicas": 1}})
    );
}

#[test]
fn pod_status_update_keeps_what_the_node_may_not_touch() {
    let old = json!({"metadata": {"ownerReferences": [{"uid": "o"}], "deletionTimestamp": "t"}, "spec": {"a": 1},
        "status": {"qosClass": "Burstable", "conditions": [{"type": "Ready", "observedGeneration": 3}]}});
    let mut new = json!({"metadata": {}, "status": {"phase": "Running", "conditions": [{"type": "Ready"}]}});
    prepare_for_subresource(&gvk("", "Pod"), "status", &mut new, &old);
    assert_eq!(new["metadata"]["ownerReferences"], json!([{"uid": "o"}]));
    assert_eq!(new["metadata"]["deletionTimestamp"], "t");
    assert_eq!(new["status"]["qosClass"], "Burstable");
    assert_eq!(new["status"]["conditions"][0]["observedGeneration"], 3);
    assert_eq!(new["spec"], json!({"a": 1}));
}

#[test]
fn resize_changes_resources_alone() {
    let old = json!({"spec": {"containers": [{"name": "a", "image": "i"}]}, "metadata": {"generation": 1}});
    let mut new = json!({"spec": {"containers": [{"name": "a", "image": "x", "resources": {"limits": {"cpu": "1"}}}],
        "nodeName": "n"}, "metadata": {"generation": 1}});
    prepare_for_subresource(&gvk("", "Pod"), "resize", &mut new, &old);
    assert_eq!(
        new["spec"],
        json!({"containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": "1"}}}]})
    );
    assert_eq!(new["metadata"]["generation"], 2);
}

#[test]
fn service_fields_follow_the_type() {
    let kind = gvk("", "Service");
    let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "externalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"name": "a", "port": 80, "nodePort": 30000}]}, "status": {"loadBalancer": {}}});
    let mut same = json!({"spec": {"type": "NodePort", "ports": [{"name": "a", "port": 81}]}});
    prepare_for_update(&kind, &mut same, &old);
    assert_eq!(same["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(same["spec"]["ports"][0]["nodePort"], 30000);
    let mut plain = old.clone();
    plain["spec"]["type"] = json!("ClusterIP");
    prepare_for_update(&kind, &mut plain, &old);
    assert_eq!(plain["spec"]["ports"], json!([{"name": "a", "port": 80}]));
    assert_eq!(plain["spec"].get("externalTrafficPolicy"), None);
    assert_eq!(plain["spec"]["clusterIP"], "10.0.0.1");
    let mut named = old.clone();
    named["spec"]["type"] = json!("ExternalName");
    prepare_for_update(&kind, &mut named, &old);
    for gone in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert_eq!(named["spec"].get(gone), None, "{gone}");
    }
    let mut created = json!({"spec": {"clusterIP": "None"}});
    prepare_for_create(&kind, &mut created);
    assert_eq!(created["spec"]["clusterIPs"], json!(["None"]));
}

#[test]
fn job_selects_by_uid() {
    let mut job =
        json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"manualSelector": false, "template": {}}});
    prepare_for_create(&gvk("batch", "Job"), &mut job);
    assert_eq!(
        job["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
    );
    assert_eq!(
        job["spec"]["template"]["metadata"]["labels"],
        json!({"batch.kubernetes.io/controller-uid": "u", "batch.kubernetes.io/job-name": "j", "controller-uid": "u",
            "job-name": "j"})
    );
}

#[test]
fn namespace_keeps_its_finalizer() {
    let kind = gvk("", "Namespace");
    let mut ns = json!({"metadata": {"name": "n"}});
    prepare_for_create(&kind, &mut ns);
    assert_eq!(ns["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(ns["status"], json!({"phase": "Active"}));
    let mut emptied = json!({"metadata": {"name": "n"}, "spec": {}});
    prepare_for_update(&kind, &mut emptied, &ns);
    assert_eq!(emptied["spec"]["finalizers"], json!(["kubernetes"]));
    let mut finalized = json!({"metadata": {"name": "n"}, "spec": {"finalizers": []}});
    prepare_for_subresource(&kind, "finalize", &mut finalized, &ns);
    assert_eq!(finalized["spec"]["finalizers"], json!([]));
    assert_eq!(finalized["status"], json!({"phase": "Active"}));
}

#[test]
fn grace() {
    let kind = gvk("", "Pod");
    let running = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
    let waiting = json!({"spec": {"terminationGracePeriodSeconds": 30}});
    let ended = json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}});
    assert_eq!(graceful_period(&kind, &running, None), Some(30));
    assert_eq!(graceful_period(&kind, &running, Some(5)), Some(5));
    assert_eq!(graceful_period(&kind, &running, Some(-5)), Some(1));
    assert_eq!(graceful_period(&kind, &waiting, Some(5)), Some(0));
    assert_eq!(graceful_period(&kind, &ended, None), Some(0));
    assert_eq!(graceful_period(&gvk("", "ConfigMap"), &running, None), None);
}

#[test]
fn deletion_marks_and_only_ever_shortens() {
    let kind = gvk("", "Pod");
    let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let later: jiff::Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
    let mut pod = json!({"metadata": {"generation": 1}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
    assert_eq!(mark_for_deletion(&kind, &mut pod, None, now), Deletion::Marked);
    assert_eq!(
        pod["metadata"],
        json!({"generation": 2, "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30})
    );
    assert_eq!(mark_for_deletion(&kind, &mut pod, None, later), Deletion::Pending);
    assert_eq!(
        mark_for_deletion(&kind, &mut pod, Some(60), later),
        Deletion::Pending
    );
    assert_eq!(
        mark_for_deletion(&kind, &mut pod, Some(20), later),
        Deletion::Marked
    );
    assert_eq!(pod["metadata"]["deletionTimestamp"], "2026-01-01T00:00:20Z");
    assert_eq!(mark_for_deletion(&kind, &mut pod, Some(0), later), Deletion::Now);
    let mut unscheduled = json!({"spec": {}});
    assert_eq!(
        mark_for_deletion(&kind, &mut unscheduled, None, now),
        Deletion::Now
    );
    assert_eq!(
        mark_for_deletion(&gvk("", "Secret"), &mut json!({}), None, now),
        Deletion::Now
    );
}

#[test]
fn scale_there_and_back() {
    let mut deployment = json!({"metadata": {"name": "d", "uid": "u", "resourceVersion": "7", "labels": {}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2}});
    let scale = scale_of(&deployment).unwrap();
    assert_eq!(
        scale,
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
            "metadata": {"name": "d", "uid": "u", "resourceVersion": "7"}, "spec": {"replicas": 3},
            "status": {"replicas": 2, "selector": "app=web"}})
    );
    apply_scale(
        &mut deployment,
        &json!({"spec": {"replicas": 5}, "metadata": {"resourceVersion": "8"}}),
    )
    .unwrap();
    assert_eq!(deployment["spec"]["replicas"], 5);
    assert_eq!(deployment["metadata"]["resourceVersion"], "8");
    let wrong = apply_scale(&mut deployment, &json!({"spec": {"replicas": -1}})).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
    );
    let other = apply_scale(&mut deployment, &json!({"metadata": {"uid": "v"}})).unwrap_err();
    assert_eq!(
        other.to_string(),
        "Precondition failed: UID in precondition: v, UID in object meta: u"
    );
}

#[test]
fn selectable_fields() {
    let pod = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}, "status": {"podIPs": [{"ip": "1.2.3.4"}]}});
    let kind = gvk("", "Pod");
    for (field, value) in [
        ("metadata.name", "a"),
        ("spec.nodeName", "n"),
        ("spec.hostNetwork", "false"),
        ("status.podIP", "1.2.3.4"),
        ("status.phase", ""),
    ] {
        assert!(supports_field(&kind, field));
        assert_eq!(field_value(&kind, &pod, field), value, "{field}");
    }
    assert!(!supports_field(&kind, "spec.containers"));
}

#[test]
fn warnings() {
    let pod = json!({"metadata": {"name": "a.b"}, "spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"},
        "containers": [{"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "X", "value": "2"}],
            "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"memory": "100m"}}}],
        "topologySpreadConstraints": [{"topologyKey": "zone"}]}});
    let got = warnings_on_create(&gvk("", "Pod"), &pod);
    assert!(
        got[0]
            .starts_with("metadata.name: this is used in the Pod's hostname, which can result in surprising")
    );
    assert_eq!(
        got[1..],
        [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            "spec.containers[0].env[1]: hides previous definition of \"X\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ]
    );
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"terminationGracePeriodSeconds": -1}}}});
    assert_eq!(
        warnings_on_create(&gvk("apps", "Deployment"), &deployment),
        [
            "spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ]
    );
}
