//! Continue tokens: where the next page of a list begins, and of which revision.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// A decoded continue token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision of the first page; -1 for the latest, inconsistently.
    pub(crate) revision: i64,
    /// Key below the resource's prefix at which the next page begins.
    pub(crate) start: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv", default)]
    revision: i64,
    #[serde(rename = "start", default)]
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl Token {
    /// The token's text.
    pub(crate) fn encode(&self) -> String {
        let wire = Wire {
            version: VERSION.into(),
            revision: self.revision,
            start: self.start.clone(),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Reads a token.
    pub(crate) fn decode(text: &str) -> Result<Self, String> {
        const INVALID: &str = "continue key is not valid";
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|e| format!("{INVALID}: {e}"))?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|e| format!("{INVALID}: {e}"))?;
        if wire.version != VERSION {
            return Err(format!(
                "{INVALID}: server does not recognize this encoded version {}",
                wire.version
            ));
        }
        if wire.revision == 0 {
            return Err(format!(
                "{INVALID}: incorrect encoded start resourceVersion (version {VERSION})"
            ));
        }
        if wire.start.is_empty() {
            return Err(format!("{INVALID}: encoded start key empty (version {VERSION})"));
        }
        if wire.start.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("{INVALID}: {}", wire.start));
        }
        Ok(Self {
            revision: wire.revision,
            start: wire.start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        let token = Token {
            revision: 7,
            start: "default/a\0".into(),
        };
        assert_eq!(Token::decode(&token.encode()), Ok(token));
        for bad in [
            "",
            "!",
            "e30",
            &Token {
                revision: 1,
                start: "../x".into(),
            }
            .encode(),
        ] {
            assert!(Token::decode(bad).is_err(), "{bad}");
        }
        assert!(
            Token::decode(
                &Token {
                    revision: 0,
                    start: "a".into()
                }
                .encode()
            )
            .is_err()
        );
    }
}
