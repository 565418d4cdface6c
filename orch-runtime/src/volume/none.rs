//! No files: for nodes whose containers are simulated.

use super::{MountRequest, Ownership, PodFiles, VolumeError, VolumePlan};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Keeps nothing and touches no disk. Paths it gives lead nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

#[async_trait]
impl PodFiles for NoFiles {
    async fn mount(
        &self,
        _: &str,
        _: Ownership,
        _: &BTreeMap<String, VolumePlan>,
    ) -> Result<(), VolumeError> {
        Ok(())
    }
    async fn unmount(&self, _: &str) -> Result<(), VolumeError> {
        Ok(())
    }
    async fn mount_path(&self, request: MountRequest<'_>) -> Result<PathBuf, VolumeError> {
        Ok(Path::new("/nowhere")
            .join(request.pod_uid)
            .join(request.volume)
            .join(request.sub_path))
    }
    async fn write(&self, pod_uid: &str, name: &str, _: &[u8], _: u32) -> Result<PathBuf, VolumeError> {
        Ok(Path::new("/nowhere").join(pod_uid).join(name))
    }
    async fn read(&self, _: &Path, _: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        Ok(None)
    }
    async fn tail(&self, _: &Path, _: usize) -> Result<Option<Vec<u8>>, VolumeError> {
        Ok(None)
    }
    async fn make_log_dir(&self, _: &Path) -> Result<(), VolumeError> {
        Ok(())
    }
    async fn rotate_log(&self, _: &Path, _: u64, _: usize, _: &str) -> Result<Option<PathBuf>, VolumeError> {
        Ok(None)
    }
    async fn remove_logs(&self, _: &Path) -> Result<(), VolumeError> {
        Ok(())
    }
    async fn remove_pod(&self, _: &str) -> Result<(), VolumeError> {
        Ok(())
    }
    async fn pods(&self) -> Result<Vec<String>, VolumeError> {
        Ok(Vec::new())
    }
}
