//! Reads and writes.

use super::{ApiHarness, Outcome, ensure, labelled, map, maps, name, said, value};
use crate::client::{ListParams, Patch};
use crate::status::StatusReason;
use futures::future::join_all;
use serde_json::{Value, json};

pub(super) async fn create(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "create").await?;
    let made = api.create(&map("a", "1")).await.map_err(said)?;
    let meta = &made.metadata;
    ensure(meta.uid.as_ref().is_some_and(|u| !u.is_empty()), || {
        "no uid".into()
    })?;
    ensure(meta.creation_timestamp.is_some(), || {
        "no creationTimestamp".into()
    })?;
    ensure(
        meta.resource_version.as_ref().is_some_and(|v| !v.is_empty()),
        || "no resourceVersion".into(),
    )?;
    let read = api.get("a").await.map_err(said)?;
    ensure(read == made, || format!("read {read:?} after creating {made:?}"))?;
    match api.create(&map("a", "2")).await {
        Err(error) if error.is_already_exists() => {}
        other => return Err(format!("creating a twin: {other:?}")),
    }
    let still = api.get("a").await.map_err(said)?;
    ensure(value(&still) == "1", || {
        "the refused twin changed the object".into()
    })
}

pub(super) async fn absent(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "absent").await?;
    let outcomes = [
        ("get", api.get("nobody").await.map(drop)),
        ("delete", api.delete("nobody", Value::Null).await),
        (
            "patch",
            api.patch("nobody", Patch::merge(json!({"data": {"v": "1"}})))
                .await
                .map(drop),
        ),
    ];
    for (what, outcome) in outcomes {
        match outcome {
            Err(error) if error.is_not_found() && error.code == 404 => {}
            other => return Err(format!("{what} of an absent object: {other:?}")),
        }
    }
    Ok(())
}

pub(super) async fn stale_replace(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "stale").await?;
    let first = api.create(&map("a", "1")).await.map_err(said)?;
    let mut second = (*first).clone();
    second.data.get_or_insert_default().insert("v".into(), "2".into());
    let written = api.replace(&second).await.map_err(said)?;
    ensure(
        written.metadata.resource_version != first.metadata.resource_version,
        || "a replace did not change the resourceVersion".into(),
    )?;
    let mut third = (*first).clone();
    third.data.get_or_insert_default().insert("v".into(), "3".into());
    match api.replace(&third).await {
        Err(error) if error.reason == StatusReason::Conflict && error.code == 409 => {}
        other => return Err(format!("a stale replace: {other:?}")),
    }
    let read = api.get("a").await.map_err(said)?;
    ensure(value(&read) == "2", || {
        format!("after a refused replace the value is {}", value(&read))
    })
}

pub(super) async fn increments(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "increments").await?;
    api.create(&map("n", "0")).await.map_err(said)?;
    let increment = || async {
        loop {
            let mut object = (*api.get("n").await.map_err(said)?).clone();
            let n: u32 = value(&object).parse().map_err(|_| "not a number".to_string())?;
            object
                .data
                .get_or_insert_default()
                .insert("v".into(), (n + 1).to_string());
            match api.replace(&object).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(said(error)),
            }
        }
    };
    for outcome in join_all((0..8).map(|_| increment())).await {
        outcome?;
    }
    let end = api.get("n").await.map_err(said)?;
    ensure(value(&end) == "8", || {
        format!("8 increments gave {}", value(&end))
    })
}

pub(super) async fn merge_patch(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "patch").await?;
    let made = api.create(&map("a", "1")).await.map_err(said)?;
    let version = made.metadata.resource_version.clone();
    let patch = json!({"metadata": {"annotations": {"x": "y"}}, "data": {"w": "2", "v": null}});
    let after = api.patch("a", Patch::merge(patch)).await.map_err(said)?;
    let data = after.data.clone().unwrap_or_default();
    ensure(data.len() == 1 && data.get("w").is_some_and(|w| w == "2"), || {
        format!("patched to {data:?}")
    })?;
    ensure(after.metadata.labels == made.metadata.labels, || {
        "an unnamed field changed".into()
    })?;
    let stale = json!({"metadata": {"resourceVersion": version}, "data": {"w": "3"}});
    match api.patch("a", Patch::merge(stale)).await {
        Err(error) if error.is_conflict() => {}
        other => return Err(format!("a patch with a stale resourceVersion: {other:?}")),
    }
    let same = api
        .patch("a", Patch::merge(json!({"data": {"w": "2"}})))
        .await
        .map_err(said)?;
    ensure(
        same.metadata.resource_version == after.metadata.resource_version,
        || "a patch that changes nothing made a new revision".into(),
    )
}

pub(super) async fn delete(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "delete").await?;
    api.create(&map("a", "1")).await.map_err(said)?;
    match api.delete_uid("a", "another-uid", "Background").await {
        Err(error) if error.is_conflict() => {}
        other => return Err(format!("a delete with another UID: {other:?}")),
    }
    api.get("a").await.map_err(said)?;
    api.delete("a", Value::Null).await.map_err(said)?;
    ensure(api.get_opt("a").await.map_err(said)?.is_none(), || {
        "it is still there after its delete".into()
    })?;

    let mut held = map("b", "1");
    held.metadata.finalizers = Some(vec!["conformance.example/hold".into()]);
    let uid = api.create(&held).await.map_err(said)?.metadata.uid.clone();
    api.delete("b", Value::Null).await.map_err(said)?;
    let waiting = api.get("b").await.map_err(said)?;
    ensure(waiting.metadata.deletion_timestamp.is_some(), || {
        "no deletionTimestamp".into()
    })?;
    ensure(waiting.metadata.uid == uid, || "another UID".into())?;
    api.patch("b", Patch::merge(json!({"metadata": {"finalizers": null}})))
        .await
        .map_err(said)?;
    ensure(api.get_opt("b").await.map_err(said)?.is_none(), || {
        "it outlived its last finalizer".into()
    })
}

pub(super) async fn generate_name(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "generate").await?;
    let mut object = map("", "1");
    object.metadata.name = None;
    object.metadata.generate_name = Some("some-".into());
    let (a, b) = (
        api.create(&object).await.map_err(said)?,
        api.create(&object).await.map_err(said)?,
    );
    ensure(name(&a) != name(&b), || format!("twice {}", name(&a)))?;
    ensure(name(&a).starts_with("some-") && name(&a).len() == 10, || {
        format!("generated {}", name(&a))
    })
}

pub(super) async fn list(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "list").await?;
    for n in ["c", "a", "e", "b", "d"] {
        let mut object = map(n, n);
        object
            .metadata
            .labels
            .get_or_insert_default()
            .insert("vowel".into(), (n == "a" || n == "e").to_string());
        api.create(&object).await.map_err(said)?;
    }
    let names = |items: &[std::sync::Arc<k8s_openapi::api::core::v1::ConfigMap>]| {
        items.iter().map(|o| name(o)).collect::<String>()
    };
    let all = api.list(&labelled("conformance=yes")).await.map_err(said)?;
    ensure(names(&all.items) == "abcde", || {
        format!("listed {}", names(&all.items))
    })?;
    let vowels = api
        .list(&labelled("conformance=yes,vowel in (true)"))
        .await
        .map_err(said)?;
    ensure(names(&vowels.items) == "ae", || {
        format!("selected {}", names(&vowels.items))
    })?;
    let one = ListParams {
        fields: "metadata.name=d".into(),
        ..ListParams::default()
    };
    let one = api.list(&one).await.map_err(said)?;
    ensure(names(&one.items) == "d", || {
        format!("selected by field {}", names(&one.items))
    })?;

    let mut params = ListParams {
        limit: 2,
        ..labelled("conformance=yes")
    };
    let (mut seen, mut pages, mut version) = (String::new(), 0, None);
    loop {
        let page = api.list(&params).await.map_err(said)?;
        ensure(page.items.len() <= 2, || {
            format!("a page of {}", page.items.len())
        })?;
        let first = version.get_or_insert_with(|| page.resource_version.clone());
        ensure(*first == page.resource_version, || {
            "pages of different resourceVersions".into()
        })?;
        seen.push_str(&names(&page.items));
        pages += 1;
        match page.continue_token.filter(|t| !t.is_empty()) {
            Some(token) => params.continue_token = token,
            None => break,
        }
    }
    ensure(seen == "abcde" && pages == 3, || {
        format!("{pages} pages of {seen}")
    })
}
