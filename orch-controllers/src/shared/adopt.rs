//! Adoption of matching orphans and release of what no longer matches.

use super::{Context, is_deleting, text, uid};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use orch_core::{
    Status,
    client::{NamespacedOrCluster, Patch},
    controller::{Error, controller_of, owner_reference},
    selector::LabelSelector,
};
use serde_json::{Value, json};
use std::sync::Arc;

/// What becomes of the objects an owner may claim.
#[derive(Debug)]
pub(crate) struct Claims<K> {
    /// Its own, to be kept.
    pub(crate) keep: Vec<Arc<K>>,
    /// Orphans to take.
    pub(crate) adopt: Vec<Arc<K>>,
    /// Its own, to be let go.
    pub(crate) release: Vec<Arc<K>>,
}

/// Sorts objects by what an owner does with them; those of other owners are left out.
pub(crate) fn plan_claims<K: NamespacedOrCluster>(
    owner: &ObjectMeta,
    selector: &LabelSelector,
    objects: Vec<Arc<K>>,
) -> Claims<K> {
    let mut claims = Claims {
        keep: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    for object in objects {
        let meta = object.metadata();
        let matches = selector.matches_opt(meta.labels.as_ref());
        match controller_of(meta) {
            Some(other) if other.uid != uid(owner) => {}
            Some(_) if matches => claims.keep.push(object),
            Some(_) if is_deleting(owner) => {}
            Some(_) => claims.release.push(object),
            None if matches && !is_deleting(owner) && !is_deleting(meta) => claims.adopt.push(object),
            None => {}
        }
    }
    claims
}

fn references_patch(meta: &ObjectMeta, references: Value) -> Patch {
    Patch::merge(json!({"metadata": {
        "uid": meta.uid, "resourceVersion": meta.resource_version, "ownerReferences": references,
    }}))
}

/// Applies the claims of `owner` and answers with what it has then. Before the first adoption it is read afresh: one
/// that is gone, replaced or being deleted adopts nothing.
///
/// # Errors
/// A conflict if an object changed meanwhile; whatever the server says.
pub(crate) async fn apply_claims<O: NamespacedOrCluster, K: NamespacedOrCluster>(
    ctx: &Context,
    owner: &O,
    claims: Claims<K>,
) -> Result<Vec<Arc<K>>, Error> {
    let namespace = text(&owner.metadata().namespace);
    let api = ctx.api::<K>(namespace);
    let mut owned = claims.keep;
    for object in claims.release {
        let meta = object.metadata();
        let others: Vec<_> = meta
            .owner_references
            .iter()
            .flatten()
            .filter(|o| o.uid != uid(owner.metadata()))
            .collect();
        match api
            .patch(text(&meta.name), references_patch(meta, json!(others)))
            .await
        {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    if !claims.adopt.is_empty() {
        may_adopt(ctx, owner).await?;
    }
    for object in claims.adopt {
        let meta = object.metadata();
        let mut references = meta.owner_references.clone().unwrap_or_default();
        references.push(owner_reference(owner));
        match api
            .patch(text(&meta.name), references_patch(meta, json!(references)))
            .await
        {
            Ok(adopted) => owned.push(adopted),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(owned)
}

async fn may_adopt<O: NamespacedOrCluster>(ctx: &Context, owner: &O) -> Result<(), Error> {
    let meta = owner.metadata();
    let fresh: Result<Arc<O>, Status> = ctx.api::<O>(text(&meta.namespace)).get(text(&meta.name)).await;
    let fresh = fresh?;
    if uid(fresh.metadata()) != uid(meta) {
        return Err(Error::NotYet(format!(
            "original {} {} is gone",
            O::KIND,
            text(&meta.name)
        )));
    }
    if is_deleting(fresh.metadata()) {
        return Err(Error::NotYet(format!(
            "{} {} has just been deleted",
            O::KIND,
            text(&meta.name)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};
    use orch_core::testing::builders::pod;

    #[test]
    fn claims() {
        let owned_by = |uid: &str| OwnerReference {
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        let objects: Vec<Arc<Pod>> = [
            pod("n", "mine").label("a", "b").owner(owned_by("me")),
            pod("n", "strayed").owner(owned_by("me")),
            pod("n", "other").label("a", "b").owner(owned_by("you")),
            pod("n", "orphan").label("a", "b"),
            pod("n", "stranger"),
        ]
        .into_iter()
        .map(|b| Arc::new(b.build()))
        .collect();
        let selector = LabelSelector::parse("a=b").unwrap();
        let mut owner = ObjectMeta {
            uid: Some("me".into()),
            ..ObjectMeta::default()
        };
        let names = |pods: &[Arc<Pod>]| {
            pods.iter()
                .map(|p| text(&p.metadata.name))
                .collect::<Vec<_>>()
                .join(",")
        };
        let claims = plan_claims(&owner, &selector, objects.clone());
        assert_eq!(
            (names(&claims.keep), names(&claims.adopt), names(&claims.release)),
            ("mine".into(), "orphan".into(), "strayed".into())
        );
        owner.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::UNIX_EPOCH,
        ));
        let claims = plan_claims(&owner, &selector, objects);
        assert_eq!(
            (claims.keep.len(), claims.adopt.len(), claims.release.len()),
            (1, 0, 0)
        );
    }
}
