//! Files of the PKI directory: private, atomic, synced.

use crate::setup_error::SetupError;
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

fn error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SetupError {
    let path = path.to_owned();
    move |source| SetupError::File { action, path, source }
}

/// Makes `dir` with mode 0700 if it is not there.
pub(super) fn make_dir(dir: &Path) -> Result<(), SetupError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(error("make directory", dir))
}

/// The text of a file.
pub(crate) fn read_file(path: &Path) -> Result<String, SetupError> {
    let bytes = fs::read(path).map_err(error("read", path))?;
    String::from_utf8(bytes).map_err(|_| SetupError::Damaged {
        path: path.to_owned(),
        what: "not text".into(),
    })
}

/// The text of a file, `None` if there is no such file.
pub(super) fn load(path: &Path) -> Result<Option<String>, SetupError> {
    match read_file(path) {
        Err(SetupError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
        Ok(text) => Ok(Some(text)),
    }
}

/// Certificate and key of `stem`, each `None` if there is no such file.
pub(super) fn load_pair(dir: &Path, stem: &str) -> Result<(Option<String>, Option<String>), SetupError> {
    Ok((
        load(&dir.join(format!("{stem}.crt")))?,
        load(&dir.join(format!("{stem}.key")))?,
    ))
}

/// Writes key and certificate of `stem`. Both are staged and synced before either gets its name, so only the two
/// renames lie between old and new; a crash there leaves a pair that does not fit, which the loader notices.
pub(super) fn store_pair(dir: &Path, stem: &str, cert: &str, key: &str) -> Result<(), SetupError> {
    let (cert_path, key_path) = (dir.join(format!("{stem}.crt")), dir.join(format!("{stem}.key")));
    let staged_key = stage(&key_path, key.as_bytes())?;
    let staged_cert = stage(&cert_path, cert.as_bytes())?;
    fs::rename(&staged_key, &key_path).map_err(error("write", &key_path))?;
    fs::rename(&staged_cert, &cert_path).map_err(error("write", &cert_path))?;
    sync_dir(dir)
}

/// Writes a file with mode 0600 so that a crash leaves the old content or the new, never a mixture.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), SetupError> {
    let staged = stage(path, content)?;
    fs::rename(&staged, path).map_err(error("write", path))?;
    sync_dir(
        path.parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new(".")),
    )
}

fn stage(path: &Path, content: &[u8]) -> Result<PathBuf, SetupError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let staged = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(error("write", path))?;
    Ok(staged)
}

fn sync_dir(dir: &Path) -> Result<(), SetupError> {
    fs::File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(error("sync directory", dir))
}
