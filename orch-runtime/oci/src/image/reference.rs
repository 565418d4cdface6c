//! Image references: `name[:tag][@digest]`, completed as Docker and containerd do.

use crate::error::{Error, Result};

/// A parsed and completed reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Registry and repository, such as `docker.io/library/busybox`.
    pub repository: String,
    /// Tag; `latest` if neither a tag nor a digest was given.
    pub tag: Option<String>,
    /// Digest, `sha256:…`.
    pub digest: Option<String>,
}

impl Reference {
    /// Parses and completes a reference.
    ///
    /// # Errors
    /// [`Error::InvalidReference`].
    pub fn parse(text: &str) -> Result<Self> {
        let fail = |reason: &str| Error::InvalidReference {
            reference: text.to_owned(),
            reason: reason.to_owned(),
        };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                if !is_digest(digest) {
                    return Err(fail("the digest must be sha256: and 64 hexadecimal digits"));
                }
                (name, Some(digest.to_owned()))
            }
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it belongs to the registry's port.
        let slash = name.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match name[slash..].find(':') {
            Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
            None => (name, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(fail(
                "the tag must be 1 to 128 letters, digits, '_', '.' or '-', not starting with '.' or '-'",
            ));
        }
        let repository = match name.split_once('/') {
            Some((first, rest)) if is_domain(first) => {
                let first = if first == "index.docker.io" {
                    "docker.io"
                } else {
                    first
                };
                if first == "docker.io" && !rest.contains('/') {
                    format!("docker.io/library/{rest}")
                } else {
                    format!("{first}/{rest}")
                }
            }
            Some(_) => format!("docker.io/{name}"),
            None => format!("docker.io/library/{name}"),
        };
        let path = repository.split_once('/').map_or("", |(_, path)| path);
        if path.is_empty() || !path.split('/').all(is_component) {
            return Err(fail(
                "the name must be lower case letters, digits and single separators '.', '_' or '-'",
            ));
        }
        if repository.len() > 255 {
            return Err(fail("the name must not be longer than 255 characters"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self {
            repository,
            tag,
            digest,
        })
    }

    /// `repository:tag`, if there is a tag.
    #[must_use]
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.repository))
    }

    /// `repository@digest`, if there is a digest.
    #[must_use]
    pub fn digested(&self) -> Option<String> {
        self.digest
            .as_ref()
            .map(|digest| format!("{}@{digest}", self.repository))
    }
}

/// The image ID that `text` spells (`sha256:` and 64 hexadecimal digits, or the digits alone), with the prefix.
pub(crate) fn as_image_id(text: &str) -> Option<String> {
    if is_digest(text) {
        return Some(text.to_owned());
    }
    is_hex64(text).then(|| format!("sha256:{text}"))
}

/// Whether `text` is a SHA-256 digest in the form of OCI.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hex64)
}

fn is_hex64(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_domain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && (text == "localhost" || text.contains(['.', ':']) || text.bytes().any(|b| b.is_ascii_uppercase()))
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
}

fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Lower case letters and digits in groups, between them one '.', one or two '_', or any number of '-'.
fn is_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(first) || !alnum(last) {
        return false;
    }
    text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, Option<&str>, bool)>) {
        let found = Reference::parse(text).ok();
        let found = found
            .as_ref()
            .map(|r| (r.repository.as_str(), r.tag.as_deref(), r.digest.is_some()));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn references_are_completed() {
        let hex = "a".repeat(64);
        check(
            "busybox",
            Some(("docker.io/library/busybox", Some("latest"), false)),
        );
        check(
            "busybox:1.36",
            Some(("docker.io/library/busybox", Some("1.36"), false)),
        );
        check(
            "docker.io/busybox",
            Some(("docker.io/library/busybox", Some("latest"), false)),
        );
        check(
            "index.docker.io/a/b",
            Some(("docker.io/a/b", Some("latest"), false)),
        );
        check("a/b:c", Some(("docker.io/a/b", Some("c"), false)));
        check(
            "localhost:5000/b",
            Some(("localhost:5000/b", Some("latest"), false)),
        );
        check(
            "localhost/b_c/d--e",
            Some(("localhost/b_c/d--e", Some("latest"), false)),
        );
        check(
            "registry.k8s.io/pause:3.10",
            Some(("registry.k8s.io/pause", Some("3.10"), false)),
        );
        check(&format!("r.io/x@sha256:{hex}"), Some(("r.io/x", None, true)));
        check(
            &format!("r.io/x:t@sha256:{hex}"),
            Some(("r.io/x", Some("t"), true)),
        );
        for bad in [
            "",
            ":",
            "Busybox",
            "a//b",
            "a:",
            "a:-x",
            "x@sha256:12",
            "a b",
            "../x",
            "-a",
            "a.",
            "a..b",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn ids_are_digests_or_64_digits() {
        let hex = "0a".repeat(32);
        assert_eq!(as_image_id(&hex), Some(format!("sha256:{hex}")));
        assert_eq!(
            as_image_id(&format!("sha256:{hex}")),
            Some(format!("sha256:{hex}"))
        );
        assert_eq!(as_image_id("busybox"), None);
    }
}
