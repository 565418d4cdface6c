//! `orch image`.

use clap::{Args, Subcommand};
use orch_oci::image::ImageStore;
use std::path::PathBuf;

/// Import and list container images.
#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Import an image from an OCI layout directory, an OCI archive or a `docker save` archive.
    Import(Import),
    /// List the images of a data directory.
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The archive or layout directory.
    file: PathBuf,
    /// The data directory.
    #[arg(long, default_value_os_t = super::default_data_dir())]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The data directory.
    #[arg(long, default_value_os_t = super::default_data_dir())]
    data_dir: PathBuf,
}

impl Image {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Import(import) => {
                let store = ImageStore::open(orch::machine::images_dir(&import.data_dir))?;
                for image in store.import(&import.file)? {
                    println!("imported {}", image.tags.join(", "));
                }
            }
            Self::List(list) => {
                let store = ImageStore::open(orch::machine::images_dir(&list.data_dir))?;
                println!("{:<50} {:<20} {:>12}", "NAME", "ID", "BYTES");
                for image in store.list()? {
                    let id = image.id.trim_start_matches("sha256:");
                    for name in &image.tags {
                        println!(
                            "{name:<50} {:<20} {:>12}",
                            id.get(..19).unwrap_or(id),
                            image.size_bytes
                        );
                    }
                }
            }
        }
        Ok(())
    }
}
