//! Watches.

use super::{ApiHarness, Outcome, ensure, labelled, map, maps, name, said, value};
use crate::{
    Env,
    client::{ListParams, Patch, TypedEvent, TypedWatch, WatchEventType},
};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const PATIENCE: Duration = Duration::from_secs(20);

/// The next event, bookmarks included.
async fn next(
    env: &Env,
    events: &mut TypedWatch<ConfigMap>,
    patience: Duration,
) -> Result<TypedEvent<ConfigMap>, String> {
    tokio::select! {
        event = events.next() => match event {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(format!("the watch failed: {}", said(error))),
            None => Err("the watch ended".into()),
        },
        () = env.clock.sleep(patience) => Err("no event came".into()),
    }
}

/// The next event that is not a bookmark, as `Added a=1`.
async fn told(env: &Env, events: &mut TypedWatch<ConfigMap>) -> Result<String, String> {
    loop {
        let event = next(env, events, PATIENCE).await?;
        if let Some(object) = event.object {
            return Ok(format!("{:?} {}={}", event.kind, name(&object), value(&object)));
        }
    }
}

fn from(version: &str) -> ListParams {
    ListParams {
        resource_version: version.into(),
        ..labelled("conformance=yes")
    }
}

fn set(v: &str) -> Patch {
    Patch::merge(json!({"data": {"v": v}}))
}

pub(super) async fn complete(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "watch").await?;
    api.create(&map("old", "0")).await.map_err(said)?;
    let list = api.list(&labelled("conformance=yes")).await.map_err(said)?;
    let mut state: BTreeMap<String, String> = list
        .items
        .iter()
        .map(|o| (name(o).to_owned(), value(o).to_owned()))
        .collect();
    // Half of the changes before the watch is opened, half after.
    api.create(&map("a", "1")).await.map_err(said)?;
    api.patch("a", set("2")).await.map_err(said)?;
    api.delete("old", Value::Null).await.map_err(said)?;
    let mut events = api.watch(&from(&list.resource_version)).await.map_err(said)?;
    api.create(&map("b", "1")).await.map_err(said)?;
    api.patch("a", set("3")).await.map_err(said)?;
    api.delete("b", Value::Null).await.map_err(said)?;
    let expected = [
        "Added a=1",
        "Modified a=2",
        "Deleted old=0",
        "Added b=1",
        "Modified a=3",
        "Deleted b=1",
    ];
    let mut version = list.resource_version.parse::<u64>().unwrap_or(0);
    for expected in expected {
        let event = loop {
            let event = next(&h.env(), &mut events, PATIENCE).await?;
            if event.kind != WatchEventType::Bookmark {
                break event;
            }
        };
        let Some(object) = event.object else {
            return Err("an event without an object".into());
        };
        let got = format!("{:?} {}={}", event.kind, name(&object), value(&object));
        ensure(got == expected, || format!("expected {expected}, got {got}"))?;
        let now = event
            .resource_version
            .parse::<u64>()
            .map_err(|e| format!("resourceVersion: {e}"))?;
        ensure(now > version, || format!("resourceVersion {now} after {version}"))?;
        version = now;
        match event.kind {
            WatchEventType::Deleted => drop(state.remove(name(&object))),
            _ => drop(state.insert(name(&object).to_owned(), value(&object).to_owned())),
        }
    }
    let end = api.list(&labelled("conformance=yes")).await.map_err(said)?;
    let end: BTreeMap<String, String> = end
        .items
        .iter()
        .map(|o| (name(o).to_owned(), value(o).to_owned()))
        .collect();
    ensure(end == state, || format!("list {end:?}, watch {state:?}"))
}

pub(super) async fn selected(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "watch-selected").await?;
    let list = api.list(&labelled("conformance=yes")).await.map_err(said)?;
    let params = ListParams {
        resource_version: list.resource_version.clone(),
        ..labelled("conformance=yes,color=red")
    };
    let mut events = api.watch(&params).await.map_err(said)?;
    let paint = |c: &str| Patch::merge(json!({"metadata": {"labels": {"color": c}}}));
    api.create(&map("a", "1")).await.map_err(said)?;
    api.patch("a", paint("red")).await.map_err(said)?;
    api.patch("a", set("2")).await.map_err(said)?;
    api.patch("a", paint("blue")).await.map_err(said)?;
    api.patch("a", set("3")).await.map_err(said)?;
    api.patch("a", paint("red")).await.map_err(said)?;
    api.delete("a", Value::Null).await.map_err(said)?;
    for expected in [
        "Added a=1",
        "Modified a=2",
        "Deleted a=2",
        "Added a=3",
        "Deleted a=3",
    ] {
        let got = told(&h.env(), &mut events).await?;
        ensure(got == expected, || format!("expected {expected}, got {got}"))?;
    }
    Ok(())
}

pub(super) async fn from_now(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "watch-from-now").await?;
    api.create(&map("a", "1")).await.map_err(said)?;
    api.create(&map("b", "1")).await.map_err(said)?;
    let mut events = api.watch(&from("")).await.map_err(said)?;
    api.patch("a", set("2")).await.map_err(said)?;
    for expected in ["Added a=1", "Added b=1", "Modified a=2"] {
        let got = told(&h.env(), &mut events).await?;
        ensure(got == expected, || format!("expected {expected}, got {got}"))?;
    }
    Ok(())
}

pub(super) async fn expired(h: &dyn ApiHarness) -> Outcome {
    let api = maps(h, "watch-expired").await?;
    let list = api.list(&labelled("conformance=yes")).await.map_err(said)?;
    for n in ["a", "b", "c"] {
        api.create(&map(n, "1")).await.map_err(said)?;
    }
    if !h.compact().await {
        return Ok(());
    }
    api.create(&map("d", "1")).await.map_err(said)?;
    // The answer may be an error at once, or a watch whose first item is one.
    let error = match api.watch(&from(&list.resource_version)).await {
        Err(error) => error,
        Ok(mut events) => match events.next().await {
            Some(Err(error)) => error,
            other => return Err(format!("a watch from a compacted version gave {other:?}")),
        },
    };
    ensure(error.is_expired() && error.code == 410, || {
        format!("not expired but {}", said(error.clone()))
    })
}

pub(super) async fn bookmarks(h: &dyn ApiHarness) -> Outcome {
    let Some(patience) = h.bookmark_within() else {
        return Ok(());
    };
    let api = maps(h, "watch-bookmarks").await?;
    let list = api.list(&labelled("conformance=yes")).await.map_err(said)?;
    let mut events = api.watch(&from(&list.resource_version)).await.map_err(said)?;
    // Something that this watch does not see moves the revision on.
    let mut other = map("other", "1");
    other.metadata.labels = None;
    let other = api.create(&other).await.map_err(said)?;
    let version: u64 = other
        .metadata
        .resource_version
        .as_deref()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let event = next(&h.env(), &mut events, patience).await;
    api.delete("other", Value::Null).await.map_err(said)?;
    let event = event?;
    ensure(event.kind == WatchEventType::Bookmark, || {
        format!("expected a bookmark, got {:?}", event.kind)
    })?;
    let at: u64 = event
        .resource_version
        .parse()
        .map_err(|_| "a bookmark without a version".to_string())?;
    ensure(at >= version, || format!("bookmark at {at}, before {version}"))
}
