//! Writes the OpenAPI documents of the built-in resources into a directory.

use orch_kinds::resources;
use orch_openapi::OpenApi;

fn main() -> std::io::Result<()> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "openapi".into());
    let dir = std::path::Path::new(&dir);
    let openapi = OpenApi::new(resources::all().iter().cloned().map(Into::into).collect());
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("v2.json"), openapi.v2().bytes)?;
    std::fs::write(dir.join("v2.pb"), openapi.v2_protobuf().bytes)?;
    std::fs::write(dir.join("v3.json"), openapi.v3_index().bytes)?;
    for (path, _) in openapi.v3_paths() {
        if let Some(document) = openapi.v3(&path) {
            std::fs::write(
                dir.join(format!("v3-{}.json", path.replace('/', "__"))),
                document.bytes,
            )?;
        }
    }
    Ok(())
}
