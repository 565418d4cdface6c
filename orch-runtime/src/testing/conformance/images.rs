//! Promises of [`crate::runtime::ImageService`].

use super::{Explain, Kit, Outcome, ensure, promises};
use crate::runtime::RuntimeError;

promises! { "image": is_found, absent_is_none, bad_names_are_refused, removing_absent_is_fine, bad_archive_is_refused }

async fn is_found(kit: Kit<'_>) -> Outcome {
    let reference = kit.harness.image();
    let image = kit
        .rt()
        .image(&reference)
        .await
        .explain("image")?
        .ok_or("the harness's image is not there")?;
    ensure!(image.id.starts_with("sha256:"), "ID is {:?}", image.id);
    let by_id = kit.rt().image(&image.id).await.explain("image by ID")?;
    ensure!(by_id.as_ref() == Some(&image), "by ID it is {by_id:?}");
    let listed = kit.rt().images().await.explain("images")?;
    ensure!(listed.contains(&image), "not listed");
    Ok(())
}

async fn absent_is_none(kit: Kit<'_>) -> Outcome {
    let found = kit
        .rt()
        .image("localhost/conformance/absent:1")
        .await
        .explain("image")?;
    ensure!(found.is_none(), "found {found:?}");
    Ok(())
}

async fn bad_names_are_refused(kit: Kit<'_>) -> Outcome {
    for name in ["", "has space:1"] {
        match kit.rt().image(name).await {
            Err(RuntimeError::InvalidImageName { .. }) => {}
            other => return Err(format!("image {name:?}: {other:?}")),
        }
    }
    Ok(())
}

async fn removing_absent_is_fine(kit: Kit<'_>) -> Outcome {
    kit.rt()
        .remove_image("localhost/conformance/absent:1")
        .await
        .explain("remove_image")
}

async fn bad_archive_is_refused(kit: Kit<'_>) -> Outcome {
    match kit
        .rt()
        .import(&kit.harness.dir().join("no-such-archive.tar"))
        .await
    {
        Err(_) => Ok(()),
        Ok(images) => Err(format!("imported {images:?} from nothing")),
    }
}
