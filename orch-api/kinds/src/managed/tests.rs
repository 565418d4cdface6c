//! Ownership against what an upstream API server records.

use super::*;
use crate::schema::{builtin, from_crd};
use orch_core::GroupVersionKind;
use proptest::prelude::*;
use serde_json::{Value, json};

fn ty(group: &str, kind: &str) -> TypeRef {
    builtin(&GroupVersionKind::new(group, "v1", kind)).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_800_000_000 + second, 999).unwrap()
}

struct Writer {
    ty: TypeRef,
    api_version: &'static str,
    reset: FieldSet,
    subresource: &'static str,
}

impl Writer {
    fn new(group: &str, kind: &str, api_version: &'static str) -> Self {
        let ty = ty(group, kind);
        let reset = reset_fields(&ty, "");
        Self {
            ty,
            api_version,
            reset,
            subresource: "",
        }
    }
    fn write<'a>(&'a self, manager: &'a str, second: i64) -> Write<'a> {
        Write {
            ty: &self.ty,
            manager,
            subresource: self.subresource,
            api_version: self.api_version,
            now: at(second),
            reset: &self.reset,
        }
    }
    fn update(&self, old: Option<&Value>, mut new: Value, manager: &str, second: i64) -> Value {
        track_update(old, &mut new, &self.write(manager, second));
        new
    }
    fn apply(
        &self,
        live: Option<&Value>,
        intent: &Value,
        manager: &str,
        second: i64,
    ) -> Result<Value, ApplyError> {
        apply(live, intent, false, &self.write(manager, second)).map(|a| a.object)
    }
    fn force(&self, live: Option<&Value>, intent: &Value, manager: &str, second: i64) -> Value {
        apply(live, intent, true, &self.write(manager, second))
            .unwrap()
            .object
    }
}

fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .into_iter()
        .find(|e| e["manager"] == manager)
        .map_or(Value::Null, |e| e["fieldsV1"].clone())
}

fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = "u".into();
    object
}

#[test]
fn create_records_what_upstream_records() {
    let w = Writer::new("apps", "Deployment", "apps/v1");
    let object = json!({"apiVersion":"apps/v1","kind":"Deployment",
        "metadata":{"name":"web","uid":"u","labels":{"app":"web"},"creationTimestamp":"2026-01-01T00:00:00Z","generation":1},
        "spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},
            "strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"}},
            "template":{"metadata":{"labels":{"app":"web"}},
                "spec":{"containers":[{"name":"c","image":"i","resources":{},"ports":[{"containerPort":80,"protocol":"TCP"}],
                    "args":["a"]}],
                    "restartPolicy":"Always","securityContext":{},"volumes":[{"name":"v","emptyDir":{}}]}}},
        "status":{}});
    let created = w.update(None, object, "kubectl-create", 0);
    assert_eq!(
        created["metadata"]["managedFields"],
        json!([{"manager":"kubectl-create","operation":"Update","apiVersion":"apps/v1","time":"2027-01-15T08:00:00Z",
            "fieldsType":"FieldsV1","fieldsV1":{
                "f:metadata":{"f:labels":{".":{},"f:app":{}}},
                "f:spec":{"f:replicas":{},"f:selector":{},
                    "f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{},"f:maxUnavailable":{}},"f:type":{}},
                    "f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},
                        "f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{},"f:image":{},"f:name":{},
                                "f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                                    {".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{}}},
                            "f:restartPolicy":{},"f:securityContext":{},
                            "f:volumes":{".":{},"k:{\"name\":\"v\"}":{".":{},"f:emptyDir":{},"f:name":{}}}}}}}}])
    );
}

#[test]
fn updates_move_ownership_and_time() {
    let w = Writer::new("", "ConfigMap", "v1");
    let object = |data: Value| json!({"metadata":{"name":"a"},"data":data});
    let first = stored(w.update(None, object(json!({"a":"1","b":"1"})), "one", 0));
    assert_eq!(
        fields(&first, "one"),
        json!({"f:data":{".":{},"f:a":{},"f:b":{}}})
    );
    let same = w.update(Some(&first), stored(object(json!({"a":"1","b":"1"}))), "two", 1);
    assert_eq!(
        same["metadata"]["managedFields"], first["metadata"]["managedFields"],
        "no change, no owner"
    );
    let second = w.update(Some(&first), stored(object(json!({"a":"2","c":"1"}))), "two", 2);
    assert_eq!(fields(&second, "one"), json!({"f:data":{}}));
    assert_eq!(fields(&second, "two"), json!({"f:data":{"f:a":{},"f:c":{}}}));
    assert_eq!(
        second["metadata"]["managedFields"][0]["time"],
        "2027-01-15T08:00:00Z"
    );
    let gone = w.update(Some(&second), stored(json!({"metadata":{"name":"a"}})), "two", 3);
    assert_eq!(gone["metadata"].get("managedFields"), None);
    // A request may forget all owners, and is then not tracked again until somebody applies.
    let mut reset = stored(object(json!({"a":"2"})));
    reset["metadata"]["managedFields"] = json!([{}]);
    let reset = w.update(Some(&second), reset, "two", 3);
    assert_eq!(reset["metadata"].get("managedFields"), None);
    // Status is not owned through the main resource.
    let pods = Writer::new("", "Pod", "v1");
    let pod = pods.update(
        None,
        json!({"metadata":{"name":"a"},"spec":{"nodeName":"n"},"status":{"phase":"Running"}}),
        "one",
        0,
    );
    assert_eq!(fields(&pod, "one"), json!({"f:spec":{"f:nodeName":{}}}));
}

#[test]
fn status_has_its_own_entry() {
    let main = Writer::new("", "Pod", "v1");
    let status = Writer {
        subresource: "status",
        reset: reset_fields(&main.ty, "status"),
        ..Writer::new("", "Pod", "v1")
    };
    let pod = stored(main.update(
        None,
        json!({"metadata":{"name":"a"},"spec":{"nodeName":"n"},"status":{}}),
        "kubelet",
        0,
    ));
    let mut new = pod.clone();
    new["status"] = json!({"phase":"Running","conditions":[{"type":"Ready","status":"True"}]});
    let pod = status.update(Some(&pod), new, "kubelet", 1);
    let entries = pod["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(
        entries[1]["fieldsV1"],
        json!({"f:status":{"f:phase":{},"f:conditions":{".":{},"k:{\"type\":\"Ready\"}":{".":{},"f:type":{},"f:status":{}}}}})
    );
}

#[test]
fn more_than_ten_updaters_are_merged() {
    let w = Writer::new("", "ConfigMap", "v1");
    let mut object = stored(w.update(None, json!({"metadata":{"name":"a"},"data":{"k0":"v"}}), "m0", 0));
    for i in 1..13 {
        let mut new = object.clone();
        new["data"][format!("k{i}")] = "v".into();
        object = w.update(Some(&object), new, &format!("m{i}"), i);
    }
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
    assert_eq!(entries[0]["time"], "2027-01-15T08:00:03Z");
    assert_eq!(
        entries[0]["fieldsV1"],
        json!({"f:data":{".":{},"f:k0":{},"f:k1":{},"f:k2":{},"f:k3":{}}})
    );
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"default"},"spec":spec})
}

#[test]
fn apply_creates_merges_and_conflicts() {
    let w = Writer::new("apps", "Deployment", "apps/v1");
    let intent = deployment(
        json!({"replicas":3,"template":{"metadata":{"labels":{"app":"web"}},
        "spec":{"containers":[{"name":"c","image":"1"}]}}}),
    );
    let live = stored(w.apply(None, &intent, "alice", 0).unwrap());
    assert_eq!(
        live["metadata"]["managedFields"],
        json!([{"manager":"alice","operation":"Apply","apiVersion":"apps/v1","time":"2027-01-15T08:00:00Z",
            "fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{},"f:template":{
                "f:metadata":{"f:labels":{"f:app":{}}},
                "f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}}}}])
    );
    // The same again changes nothing, time included.
    let again = apply(Some(&live), &intent, false, &w.write("alice", 5)).unwrap();
    assert!(!again.changed);
    assert_eq!(again.object, live);
    // Another applier may agree, but not differ.
    let agree = deployment(json!({"replicas":3}));
    let shared = w.apply(Some(&live), &agree, "bob", 6).unwrap();
    assert_eq!(fields(&shared, "bob"), json!({"f:spec":{"f:replicas":{}}}));
    let differ = deployment(json!({"replicas":5}));
    let error = w.apply(Some(&live), &differ, "bob", 6).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"alice\": .spec.replicas"
    );
    let taken = w.force(Some(&live), &differ, "bob", 7);
    assert_eq!(taken["spec"]["replicas"], 5);
    assert_eq!(fields(&taken, "bob"), json!({"f:spec":{"f:replicas":{}}}));
    assert_eq!(fields(&taken, "alice")["f:spec"].get("f:replicas"), None);
    let both =
        deployment(json!({"replicas":9,"template":{"spec":{"containers":[{"name":"c","image":"2"}]}}}));
    assert_eq!(
        w.apply(Some(&live), &both, "carol", 8).unwrap_err().to_string(),
        "Apply failed with 2 conflicts: conflicts with \"alice\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image"
    );
}

#[test]
fn conflict_with_an_updater_names_its_version() {
    let w = Writer::new("apps", "Deployment", "apps/v1");
    let live = stored(w.update(
        None,
        deployment(json!({"replicas":1})),
        "kubectl-client-side-apply",
        0,
    ));
    let error = w
        .apply(Some(&live), &deployment(json!({"replicas":2})), "bob", 1)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    // kubectl may take over what its own client-side apply set.
    let mut live = live;
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration":
        deployment(json!({"replicas":1})).to_string()});
    let over = w
        .apply(Some(&live), &deployment(json!({"replicas":2})), "kubectl", 1)
        .unwrap();
    assert_eq!(over["spec"]["replicas"], 2);
    let kept = over["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
        .as_str()
        .unwrap();
    assert_eq!(kept, format!("{}\n", deployment(json!({"replicas":2}))));
}

#[test]
fn apply_removes_what_is_no_longer_wanted() {
    let w = Writer::new("", "Pod", "v1");
    let pod = |containers: Value, labels: Value| json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":labels},"spec":{"containers":containers}});
    let live = stored(
        w.apply(
            None,
            &pod(
                json!([{"name":"a","image":"1"},{"name":"b","image":"1"}]),
                json!({"x":"1","y":"1"}),
            ),
            "alice",
            0,
        )
        .unwrap(),
    );
    // Somebody else owns a label too, and a third party added a container.
    let live = w
        .apply(
            Some(&live),
            &pod(json!([{"name":"z","image":"1"}]), json!({"y":"1"})),
            "bob",
            1,
        )
        .unwrap();
    assert_eq!(live["spec"]["containers"].as_array().unwrap().len(), 3);
    let less = w
        .apply(
            Some(&live),
            &pod(json!([{"name":"a","image":"2"}]), json!({})),
            "alice",
            2,
        )
        .unwrap();
    assert_eq!(less["metadata"]["labels"], json!({"y":"1"}));
    let names: Vec<&str> = less["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "z"]);
    assert_eq!(less["spec"]["containers"][0]["image"], "2");
    // Fields that nobody applied stay.
    let mut defaulted = less.clone();
    defaulted["spec"]["containers"][0]["terminationMessagePath"] = "/dev/x".into();
    let again = w
        .apply(
            Some(&defaulted),
            &pod(json!([{"name":"a"}]), json!({})),
            "alice",
            3,
        )
        .unwrap();
    assert_eq!(
        again["spec"]["containers"][0],
        json!({"name":"a","terminationMessagePath":"/dev/x"})
    );
}

#[test]
fn sets_and_atomics() {
    let w = Writer::new("", "ConfigMap", "v1");
    let intent =
        |f: Value| json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","finalizers":f}});
    let live = stored(w.apply(None, &intent(json!(["x/a"])), "alice", 0).unwrap());
    assert_eq!(
        fields(&live, "alice"),
        json!({"f:metadata":{"f:finalizers":{"v:\"x/a\"":{}}}})
    );
    let live = w.apply(Some(&live), &intent(json!(["x/b"])), "bob", 1).unwrap();
    assert_eq!(live["metadata"]["finalizers"], json!(["x/a", "x/b"]));
    let live = w.apply(Some(&live), &intent(json!([])), "alice", 2).unwrap();
    assert_eq!(live["metadata"]["finalizers"], json!(["x/b"]));
    let twice = w
        .apply(Some(&live), &intent(json!(["x/c", "x/c"])), "bob", 3)
        .unwrap_err();
    assert!(
        twice
            .to_string()
            .ends_with(".metadata.finalizers: duplicate entries for key [=\"x/c\"]"),
        "{twice}"
    );
}

#[test]
fn wrong_intents_are_refused() {
    let w = Writer::new("apps", "Deployment", "apps/v1");
    let check = |intent: Value, expected: &str| {
        assert_eq!(
            w.apply(None, &intent, "alice", 0).unwrap_err().to_string(),
            expected
        );
    };
    check(
        deployment(json!({"foo":1})),
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema",
    );
    check(
        deployment(json!({"replicas":"x"})),
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got string",
    );
    check(
        json!({"apiVersion":"apps/v2","kind":"Deployment"}),
        "Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1",
    );
    check(
        json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"managedFields":[]}}),
        "metadata.managedFields must be nil",
    );
}

#[test]
fn first_apply_on_an_untracked_object() {
    let w = Writer::new("", "ConfigMap", "v1");
    let live =
        json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","uid":"u"},"data":{"a":"1"}});
    assert_eq!(w.update(Some(&live), live.clone(), "x", 0), live, "not tracked");
    let intent = json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"b":"2"}});
    let applied = w.apply(Some(&live), &intent, "alice", 1).unwrap();
    assert_eq!(
        fields(&applied, "before-first-apply"),
        json!({"f:data":{".":{},"f:a":{}}})
    );
    assert_eq!(applied["data"], json!({"a":"1","b":"2"}));
}

#[test]
fn custom_resources_by_schema_and_without() {
    let schema = json!({"type":"object","properties":{"spec":{"type":"object","properties":{
        "items":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["k"],
            "items":{"type":"object","properties":{"k":{"type":"string"},"v":{"type":"integer"}}}},
        "plain":{"type":"array","items":{"type":"integer"}}}}}});
    for (schema, keyed) in [(Some(&schema), true), (None, false)] {
        let ty = from_crd(schema).unwrap();
        let w = Writer {
            ty,
            api_version: "x.io/v1",
            reset: FieldSet::default(),
            subresource: "",
        };
        let object = |items: Value| json!({"apiVersion":"x.io/v1","kind":"X","metadata":{"name":"a"},"spec":{"items":items,"plain":[1]}});
        let live = stored(
            w.apply(None, &object(json!([{"k":"a","v":1}])), "alice", 0)
                .unwrap(),
        );
        let spec = &fields(&live, "alice")["f:spec"];
        let expected = if keyed {
            json!({"f:items":{"k:{\"k\":\"a\"}":{".":{},"f:k":{},"f:v":{}}},"f:plain":{}})
        } else {
            json!({".":{},"f:items":{},"f:plain":{}})
        };
        assert_eq!(*spec, expected);
        let other = w.apply(Some(&live), &object(json!([{"k":"b","v":1}])), "bob", 1);
        assert_eq!(other.is_ok(), keyed);
    }
}

#[test]
fn what_became_atomic_is_owned_as_a_whole() {
    let schema = |atomic: bool| {
        let map = if atomic { "atomic" } else { "granular" };
        let schema = json!({"type":"object","properties":{"spec":{"type":"object","properties":{
            "m":{"type":"object","x-kubernetes-map-type":map,"additionalProperties":{"type":"string"}}}}}});
        Writer {
            ty: from_crd(Some(&schema)).unwrap(),
            api_version: "x.io/v1",
            reset: FieldSet::default(),
            subresource: "",
        }
    };
    let object = |m: Value| json!({"apiVersion":"x.io/v1","kind":"X","metadata":{"name":"a"},"spec":{"m":m}});
    let live = stored(
        schema(false)
            .apply(None, &object(json!({"a":"1"})), "alice", 0)
            .unwrap(),
    );
    assert_eq!(fields(&live, "alice"), json!({"f:spec":{"f:m":{"f:a":{}}}}));
    let mut new = live.clone();
    new["metadata"]["labels"] = json!({"x":"y"});
    let live = schema(true).update(Some(&live), new, "bob", 1);
    assert_eq!(fields(&live, "alice"), json!({"f:spec":{"f:m":{}}}));
    let error = schema(true)
        .apply(Some(&live), &object(json!({"b":"1"})), "carol", 2)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"alice\": .spec.m"
    );
}

#[test]
fn scale_entries_map_both_ways() {
    let w = Writer::new("apps", "Deployment", "apps/v1");
    let live = stored(
        w.apply(None, &deployment(json!({"replicas":1,"paused":true})), "alice", 0)
            .unwrap(),
    );
    let path = ["spec", "replicas"];
    let scaled = scale::to_scale(&live, &path);
    assert_eq!(scaled[0]["apiVersion"], "autoscaling/v1");
    assert_eq!(scaled[0]["fieldsV1"], json!({"f:spec":{"f:replicas":{}}}));
    let by_other = json!([{"manager":"hpa","operation":"Update","apiVersion":"autoscaling/v1","subresource":"scale",
        "fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{}}}}]);
    let back = scale::to_parent(&live, &by_other, &path, "apps/v1");
    assert_eq!(back[0]["fieldsV1"], json!({"f:spec":{"f:paused":{}}}));
    assert_eq!(back[1]["manager"], "hpa");
    assert_eq!(back[1]["apiVersion"], "apps/v1");
    assert_eq!(
        scale::to_parent(&live, &scaled, &path, "apps/v1"),
        live["metadata"]["managedFields"]
    );
}

fn any_spec() -> impl Strategy<Value = Value> {
    let env = proptest::collection::btree_map("[a-c]", 0u8..3, 0..3);
    let containers = proptest::collection::btree_map("[p-s]", (0u8..3, env), 0..4);
    let labels = proptest::collection::btree_map("[a-c]", 0u8..3, 0..3);
    (containers, labels).prop_map(|(containers, labels)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, (image, env))| {
                let env: Vec<Value> = env.into_iter().map(|(n, v)| json!({"name":n,"value":v.to_string()})).collect();
                json!({"name":name,"image":image.to_string(),"env":env})
            })
            .collect();
        let labels: Value = labels.into_iter().map(|(k, v)| (k, Value::from(v.to_string()))).collect();
        json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":labels},"spec":{"containers":containers}})
    })
    .prop_map(without_empty)
}

/// Takes empty lists and objects out: an empty list in an intent says nothing about what others put there.
fn without_empty(value: Value) -> Value {
    let empty =
        |v: &Value| v.as_array().is_some_and(Vec::is_empty) || v.as_object().is_some_and(|o| o.is_empty());
    match value {
        Value::Object(o) => Value::Object(
            o.into_iter()
                .map(|(k, v)| (k, without_empty(v)))
                .filter(|(_, v)| !empty(v))
                .collect(),
        ),
        Value::Array(a) => a.into_iter().map(without_empty).collect(),
        other => other,
    }
}

/// What the object has at the paths that the intent sets.
fn satisfied(ty: &TypeRef, object: &Value, intent: &Value) -> bool {
    let changes = compare::objects(ty.ty(), intent, object);
    changes.modified.is_empty() && changes.removed.is_empty()
}

proptest! {
    #[test]
    fn apply_gives_the_intent_and_is_idempotent(a in any_spec(), b in any_spec(), c in any_spec()) {
        let w = Writer::new("", "Pod", "v1");
        let live = stored(w.apply(None, &a, "alice", 0).unwrap());
        let live = w.force(Some(&live), &b, "bob", 1);
        prop_assert!(satisfied(&w.ty, &live, &b));
        let live = w.force(Some(&live), &c, "alice", 2);
        prop_assert!(satisfied(&w.ty, &live, &c));
        prop_assert_eq!(&w.force(Some(&live), &c, "alice", 3), &live);
        // What nobody wants any more is gone: with both withdrawn, nothing is left.
        let none = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}});
        let live = w.force(Some(&live), &none, "alice", 4);
        let live = w.force(Some(&live), &none, "bob", 5);
        prop_assert!(extract::field_set(w.ty.ty(), &live).keys().all(|k| k != "f:spec"), "{}", live);
    }

    #[test]
    fn every_changed_field_has_exactly_one_updater(a in any_spec(), b in any_spec()) {
        let w = Writer::new("", "Pod", "v1");
        let one = stored(w.update(None, a, "one", 0));
        let two = w.update(Some(&one), stored(b), "two", 1);
        let of = |m: &str| fields(&two, m).as_object().cloned().unwrap_or_default();
        prop_assert!(set::intersection(&of("one"), &of("two")).is_empty());
    }

    #[test]
    fn set_laws(a in any_spec(), b in any_spec()) {
        let ty = ty("", "Pod");
        let (a, b) = (extract::field_set(ty.ty(), &a), extract::field_set(ty.ty(), &b));
        let mut both = a.clone();
        set::union(&mut both, b.clone());
        prop_assert!(set::is_subset(&a, &both) && set::is_subset(&b, &both));
        let mut only_a = a.clone();
        set::subtract(&mut only_a, &b);
        let common = set::intersection(&a, &b);
        prop_assert!(set::intersection(&only_a, &b).is_empty());
        let mut again = only_a;
        set::union(&mut again, common);
        prop_assert_eq!(again, a.clone());
        prop_assert_eq!(FieldSet::from_fields_v1(Value::Object(a.clone())), Some(FieldSet(a)));
    }
}
