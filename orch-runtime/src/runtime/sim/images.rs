//! Simulated images: names without content.

use super::{Image, Result, RuntimeError, SimRuntime};
use crate::runtime::{ImageService, RegistryCredential};
use async_trait::async_trait;
use std::path::Path;

impl SimRuntime {
    /// Puts an image under a reference into the store.
    pub fn add_image(&self, reference: &str) -> Image {
        // FNV-1a over the name stands in for the digest of the content.
        let hash = reference.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let id = format!("sha256:{}", format!("{hash:016x}").repeat(4));
        let name = reference.split('@').next().unwrap_or(reference);
        let image = Image {
            digests: vec![format!("{name}@{id}")],
            tags: vec![reference.to_owned()],
            size_bytes: 1 << 20,
            id: id.clone(),
            ..Image::default()
        };
        self.state
            .lock()
            .images
            .insert(reference.to_owned(), image.clone());
        image
    }
}

fn check(reference: &str) -> Result<()> {
    let bad = reference.is_empty()
        || reference
            .chars()
            .any(|c| c.is_whitespace() || c.is_ascii_uppercase() && !reference.contains(':'));
    if bad {
        return Err(RuntimeError::InvalidImageName {
            image: reference.into(),
            reason: "invalid reference format".into(),
        });
    }
    Ok(())
}

#[async_trait]
impl ImageService for SimRuntime {
    async fn images(&self) -> Result<Vec<Image>> {
        let mut images: Vec<Image> = self.state.lock().images.values().cloned().collect();
        images.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(images)
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>> {
        check(reference)?;
        let found = {
            let state = self.state.lock();
            state
                .images
                .get(reference)
                .or_else(|| state.images.values().find(|i| i.id == reference))
                .cloned()
        };
        if found.is_none() && self.options.all_images_present && !self.unpullable(reference) {
            return Ok(Some(self.add_image(reference)));
        }
        Ok(found)
    }

    async fn pull(&self, reference: &str, _: &[RegistryCredential]) -> Result<Image> {
        check(reference)?;
        self.env.clock.sleep(self.options.pull_delay).await;
        if self.unpullable(reference) {
            return Err(RuntimeError::PullFailed {
                image: reference.into(),
                reason: format!("{reference}: not found"),
            });
        }
        Ok(self.add_image(reference))
    }

    async fn import(&self, archive: &Path) -> Result<Vec<Image>> {
        // The archive of a simulation is a text file with a reference a line.
        let text = std::fs::read_to_string(archive)
            .map_err(|e| RuntimeError::invalid("archive", format!("{}: {e}", archive.display())))?;
        let references: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        references.iter().try_for_each(|r| check(r))?;
        Ok(references.into_iter().map(|r| self.add_image(r)).collect())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.state
            .lock()
            .images
            .retain(|name, image| name != reference && image.id != reference);
        Ok(())
    }
}

impl SimRuntime {
    fn unpullable(&self, reference: &str) -> bool {
        self.options
            .unpullable
            .iter()
            .any(|prefix| reference.starts_with(prefix.as_str()))
    }
}
