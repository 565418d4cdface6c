//! [`seam::ImageService`] over the image store. Images are local: imported or built.

use super::OciRuntime;
use async_trait::async_trait;
use orch_runtime::runtime::{self as seam, Image, RegistryCredential, RuntimeError};
use std::path::Path;

#[async_trait]
impl seam::ImageService for OciRuntime {
    async fn images(&self) -> seam::Result<Vec<Image>> {
        let store = self.0.images.clone();
        Ok(self.blocking(move || store.list()).await?)
    }

    async fn image(&self, reference: &str) -> seam::Result<Option<Image>> {
        let (store, reference) = (self.0.images.clone(), reference.to_owned());
        Ok(self.blocking(move || store.get(&reference)).await?)
    }

    /// What is in the store already counts as pulled; anything else has to be imported.
    async fn pull(&self, reference: &str, _credentials: &[RegistryCredential]) -> seam::Result<Image> {
        match self.image(reference).await? {
            Some(image) => Ok(image),
            None => Err(RuntimeError::PullFailed {
                image: reference.to_owned(),
                reason: "this node has no access to registries; import the image into its store first".into(),
            }),
        }
    }

    async fn import(&self, archive: &Path) -> seam::Result<Vec<Image>> {
        let (store, archive) = (self.0.images.clone(), archive.to_owned());
        Ok(self.blocking(move || store.import(&archive)).await?)
    }

    async fn remove_image(&self, reference: &str) -> seam::Result<()> {
        let (store, reference) = (self.0.images.clone(), reference.to_owned());
        Ok(self.blocking(move || store.remove(&reference)).await?)
    }
}
