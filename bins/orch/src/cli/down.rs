//! `orch down`.

use clap::Args;
use orch_store::EmbeddedStore;
use std::path::PathBuf;

/// End every pod of a data directory that no cluster runs on. State and images stay.
#[derive(Debug, Args)]
pub(crate) struct Down {
    /// The data directory.
    #[arg(long, default_value_os_t = super::default_data_dir())]
    data_dir: PathBuf,
}

impl Down {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let store = self.data_dir.join("store");
        if store.is_dir() {
            // Opening it fails with the name of the process that still runs on it.
            EmbeddedStore::open(&store, orch_core::Env::system())
                .await?
                .close()
                .await;
        }
        orch::machine::teardown(&self.data_dir).await?;
        println!(
            "pods of {} are ended; state and images are kept",
            self.data_dir.display()
        );
        Ok(())
    }
}
