//! The demo image: the demo web server, made into an image on the spot and present in every new cluster.

use orch_oci::image::{ImageConfig, ImageFile, ImageStore};

/// The demo web server: one static executable, made by the build.
pub const SERVER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orch-demo"));

/// The two versions, as image names and as what the server says of itself.
pub const VERSIONS: [(&str, &str); 2] = [
    ("localhost/orch-demo:v2.00", "v2.00"),
    ("localhost/orch-demo:v2.01", "v2.01"),
];

/// Puts the demo images into `store`, if they are not there.
///
/// # Errors
/// When the store cannot be written.
pub fn ensure_images(store: &ImageStore) -> orch_oci::Result<()> {
    for (name, version) in VERSIONS {
        if store.get(name)?.is_some() {
            continue;
        }
        let files = [
            ImageFile::directory("tmp", 0o1777),
            ImageFile::new("orch-demo", 0o755, SERVER),
        ];
        let config = ImageConfig {
            entrypoint: vec!["/orch-demo".into()],
            cmd: vec!["serve".into()],
            env: vec!["PATH=/".into(), format!("DEMO_VERSION={version}")],
            ..ImageConfig::default()
        };
        store.build(&[name.to_owned()], &files, &config)?;
    }
    Ok(())
}
