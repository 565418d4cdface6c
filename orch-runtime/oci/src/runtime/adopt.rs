//! Finds what a data directory holds: after a restart of the agent, or of the machine.

use super::client;
use super::container::{Container, Meta, Phase, exit_of, read_record, time_of, write_record};
use super::launch::living_shim;
use super::{OciRuntime, Result};
use crate::error::Attempt;
use crate::sandbox::Sandbox;
use crate::shim::protocol::{ExitRecord, LOCK_FILE, Record, Request};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories that are being removed start with this.
pub(super) const GONE: &str = ".gone-";

impl OciRuntime {
    /// Adopts every sandbox and container of the data directory, and removes what was left half made.
    pub(super) async fn adopt(&self) -> Result<()> {
        let (runtime, listed) = (self.clone(), self.clone());
        let (sandboxes, containers) = self
            .blocking(move || {
                let sandboxes = subdirs(&listed.0.config.data_dir.join("sandboxes"))?;
                let containers = subdirs(&listed.0.config.data_dir.join("containers"))?;
                Ok((sandboxes, containers))
            })
            .await?;
        for dir in sandboxes {
            match Sandbox::load(&dir)? {
                Some(sandbox) => {
                    self.watch_pause(&sandbox);
                    self.0.state.lock().sandboxes.insert(sandbox.id.clone(), sandbox);
                }
                None => {
                    let at = runtime.clone();
                    self.blocking(move || at.discard_sandbox_dir(&dir)).await?;
                }
            }
        }
        for dir in containers {
            match Meta::load(&dir)? {
                Some(meta) => self.adopt_container(dir, meta).await?,
                None => {
                    let at = runtime.clone();
                    self.blocking(move || at.discard_container_dir(&dir)).await?;
                }
            }
        }
        Ok(())
    }

    async fn adopt_container(&self, dir: PathBuf, meta: Meta) -> Result<()> {
        let id = meta.id.clone();
        let record = read_record(&dir);
        let phase = match &record {
            Some(record) => match (&record.exit, record.started_at) {
                (Some(exit), _) => Phase::Exited(exit_of(record, exit)),
                (None, started_at) => Phase::Running {
                    pid: record.pid,
                    started_at: started_at.map_or_else(|| self.0.env.clock.now(), time_of),
                },
            },
            None => Phase::Created,
        };
        let starting = phase == Phase::Created && dir.join(LOCK_FILE).exists();
        let running = matches!(phase, Phase::Running { .. });
        let container = Arc::new(Container::new(dir, meta, phase));
        self.0.state.lock().containers.insert(id, container.clone());
        if starting {
            return self.abandon_start(&container).await;
        }
        if !running {
            return Ok(());
        }
        let watched = async {
            let (listener, speaker) = client::connect(&container.dir)?;
            speaker.say(&Request::Watch).await?;
            Ok::<_, std::io::Error>(listener)
        };
        if let Ok(mut listener) = watched.await {
            let (runtime, container) = (self.clone(), container.clone());
            let watch = async move { runtime.watch(&container, &mut listener).await };
            self.0.env.spawner.spawn("orch-oci-watch", Box::pin(watch));
            return Ok(());
        }
        // It ended just now, or its shim is gone.
        let record = match read_record(&container.dir) {
            Some(record) if record.exit.is_some() => record,
            found => self.lost(&container, found.unwrap_or_default()).await,
        };
        if let Some(exit) = &record.exit {
            container.end(exit_of(&record, exit));
        }
        Ok(())
    }

    /// The agent went away while this container was being started, so nobody was told that it runs: it does not.
    async fn abandon_start(&self, container: &Arc<Container>) -> Result<()> {
        let (runtime, meta, dir) = (self.clone(), container.meta.lock().clone(), container.dir.clone());
        let record = self
            .blocking(move || {
                if let Some(shim) = living_shim(&dir) {
                    shim.kill();
                }
                runtime.0.hierarchy.group(&meta.cgroup).kill();
                if let Some(record) = read_record(&dir).filter(|r| r.exit.is_some()) {
                    return Ok(record);
                }
                let message = "the node agent restarted while the container was being started".to_owned();
                let finished_at = crate::sys::wall_ns();
                let exit = ExitRecord {
                    code: 128,
                    message,
                    start_error: true,
                    finished_at,
                    oom: false,
                };
                let record = Record {
                    exit: Some(exit),
                    ..Record::default()
                };
                write_record(&dir, &record)?;
                Ok(record)
            })
            .await?;
        if let Some(exit) = &record.exit {
            container.end(exit_of(&record, exit));
        }
        Ok(())
    }

    /// Removes a container's directory and what may be mounted in it.
    pub(super) fn discard_container_dir(&self, dir: &Path) -> Result<()> {
        unmount_below(dir)?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.strip_prefix(GONE).unwrap_or(&name);
        let gone = dir.with_file_name(format!("{GONE}{name}"));
        if dir != gone && dir.exists() {
            fs::rename(dir, &gone).at("rename", dir)?;
        }
        crate::sys::remove_dir_all(&gone)?;
        self.0.images.unpin(name)
    }

    /// Removes a sandbox's directory and what may be mounted in it.
    pub(super) fn discard_sandbox_dir(&self, dir: &Path) -> Result<()> {
        unmount_below(dir)?;
        crate::sys::remove_dir_all(dir)
    }
}

fn subdirs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).at("list", dir)? {
        all.push(entry.at("list", dir)?.path());
    }
    all.sort();
    Ok(all)
}

/// Unmounts everything mounted at or below a directory, in this mount namespace.
pub(super) fn unmount_below(dir: &Path) -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo").at("read", "/proc/self/mountinfo")?;
    let mut below: Vec<PathBuf> = table
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(|p| {
            PathBuf::from(
                p.replace("\\040", " ")
                    .replace("\\011", "\t")
                    .replace("\\012", "\n")
                    .replace("\\134", "\\"),
            )
        })
        .filter(|p| p.starts_with(dir))
        .collect();
    // Later mounts may lie on earlier ones.
    below.reverse();
    for path in below {
        crate::sandbox::unmount(&path)?;
    }
    Ok(())
}
