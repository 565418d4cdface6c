use super::*;
use crate::testing::{FakeApi, sim_env};
use k8s_openapi::api::core::v1::Pod;

fn pod() -> Pod {
    let metadata = ObjectMeta {
        name: Some("p".into()),
        namespace: Some("n".into()),
        uid: Some("u".into()),
        ..ObjectMeta::default()
    };
    Pod {
        metadata,
        ..Pod::default()
    }
}

async fn recorded(messages: &[String]) -> Vec<(String, i32)> {
    let env = sim_env(1);
    let client = FakeApi::new(&env);
    let recorder = EventRecorder::new(&env, client.clone(), "test", "");
    for message in messages {
        recorder.record(&pod(), EventType::Normal, "Why", message.clone());
    }
    env.clock.sleep(Duration::from_secs(1)).await;
    let api: Api<Event> = Api::namespaced(client, "n");
    let list = api.list(&crate::client::ListParams::default()).await.unwrap();
    let mut out: Vec<_> = list
        .items
        .iter()
        .map(|e| (e.message.clone().unwrap_or_default(), e.count.unwrap_or_default()))
        .collect();
    out.sort();
    out
}

#[tokio::test(start_paused = true)]
async fn equal_events_are_counted() {
    let same = vec!["again".to_string(); 3];
    assert_eq!(recorded(&same).await, [("again".to_string(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn similar_events_are_combined_and_spam_is_cut_off() {
    let many: Vec<String> = (0..40).map(|n| format!("m{n:02}")).collect();
    let out = recorded(&many).await;
    assert_eq!(out.len(), 10, "nine of their own and one combined: {out:?}");
    assert_eq!(
        out[0],
        ("(combined from similar events): m24".to_string(), 16),
        "25 pass the spam filter"
    );
}

#[tokio::test(start_paused = true)]
async fn name_and_source_are_upstreams() {
    let env = sim_env(1);
    let client = FakeApi::new(&env);
    let recorder = EventRecorder::new(&env, client.clone(), "deployment-controller", "");
    recorder.record(&pod(), EventType::Warning, "Why", "what");
    env.clock.sleep(Duration::from_secs(1)).await;
    let api: Api<Event> = Api::namespaced(client, "n");
    let event = api
        .list(&crate::client::ListParams::default())
        .await
        .unwrap()
        .items
        .remove(0);
    let name = event.metadata.name.as_deref().unwrap();
    assert!(
        name.starts_with("p.") && i64::from_str_radix(&name[2..], 16).is_ok(),
        "{name}"
    );
    assert_eq!(event.involved_object.kind.as_deref(), Some("Pod"));
    assert_eq!(
        event.reporting_component.as_deref(),
        Some("deployment-controller")
    );
}
