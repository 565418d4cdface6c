//! Reading one object, and lists at the latest, at any, or at an exact revision, in pages.

use super::{
    Scope,
    options::{ListOptions, VersionMatch, parse_revision},
    scope::{store_status, too_large},
    select::Selection,
    token::Token,
};
use orch_core::{Object, Status};
use orch_store::{KeyRange, ReadAt, Revision};
use std::{sync::Arc, time::Duration};

/// How long a read waits for a resource version that the caches do not have yet.
const FRESH_WAIT: Duration = Duration::from_secs(3);
/// Keys read from the store at once.
const PAGE: u32 = 500;

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You \
    can start a new list without the continue parameter.";
const LIST_EXPIRED: &str = "The resourceVersion for the provided list is too old.";

/// A list in the making.
pub(crate) struct Listing {
    /// The objects, in the served version.
    pub(crate) items: Vec<Arc<Object>>,
    /// The revision at which they are what there is.
    pub(crate) revision: u64,
    /// Token of the next page.
    pub(crate) continue_token: Option<String>,
    /// How many follow, if known.
    pub(crate) remaining: Option<i64>,
}

impl Scope<'_> {
    /// GET of one object.
    pub(crate) async fn get(&self, name: &str, resource_version: &str) -> Result<Arc<Object>, Status> {
        let key = self.resource.key(self.namespace(), name);
        let found = match resource_version {
            "" => self.latest(&key).await?,
            "0" => self.cached(&key),
            given => {
                self.fresh(parse_revision(given)?).await?;
                self.cached(&key)
            }
        };
        let found = found.ok_or_else(|| self.not_found(name))?;
        Ok(self.resource.conversion.served(&found.object))
    }

    /// Waits until the caches have come to `revision`.
    pub(crate) async fn fresh(&self, revision: u64) -> Result<(), Status> {
        let caches = self.server.caches();
        if caches.wait_for_at_most(revision, FRESH_WAIT).await {
            Ok(())
        } else {
            Err(too_large(revision, caches.revision()))
        }
    }

    /// The caches' revision when they have everything that was written before the call.
    pub(crate) async fn caught_up(&self) -> Result<u64, Status> {
        let caches = self.server.caches();
        let latest = self
            .server
            .store()
            .status()
            .await
            .map_err(|e| store_status(&e))?
            .revision
            .0;
        if caches.wait_for_at_most(latest, FRESH_WAIT).await {
            return Ok(caches.revision());
        }
        Err(Status::unavailable(
            "the server is not able to keep up with the store; try again",
        ))
    }

    /// The selection of a list, watch or deletecollection.
    pub(crate) fn selection(&self, options: &ListOptions) -> Result<Selection, Status> {
        Selection::new(
            self.resource.clone(),
            self.namespace(),
            options.labels.clone(),
            options.fields.clone(),
        )
    }

    /// LIST.
    pub(crate) async fn list(&self, options: &ListOptions) -> Result<Listing, Status> {
        let selection = self.selection(options)?;
        if !options.continue_token.is_empty() {
            let token = Token::decode(&options.continue_token)
                .map_err(|e| Status::bad_request(format!("invalid continue token: {e}")))?;
            if options.revision.is_some_and(|r| r != 0) {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let start = token
                .start
                .strip_suffix('\0')
                .map_or_else(|| Some(token.start.as_str()), Some);
            if token.revision < 0 {
                let complete = self.caught_up().await?;
                return Ok(self.list_cached(&selection, options, start, complete));
            }
            let at = ReadAt::Exact(Revision(token.revision.unsigned_abs()));
            return self
                .list_stored(&selection, options, start, at, CONTINUE_EXPIRED)
                .await;
        }
        let exact = match (options.version_match, options.revision) {
            (Some(VersionMatch::Exact), Some(revision)) => Some(revision),
            (None, Some(revision)) if options.limit > 0 && revision > 0 => Some(revision),
            _ => None,
        };
        if let Some(revision) = exact {
            let at = ReadAt::Exact(Revision(revision));
            return self
                .list_stored(&selection, options, None, at, LIST_EXPIRED)
                .await;
        }
        let complete = match options.revision {
            None => self.caught_up().await?,
            Some(0) => self.server.caches().revision(),
            Some(revision) => {
                self.fresh(revision).await?;
                self.server.caches().revision()
            }
        };
        Ok(self.list_cached(&selection, options, None, complete))
    }

    fn list_cached(
        &self,
        selection: &Selection,
        options: &ListOptions,
        after: Option<&str>,
        complete: u64,
    ) -> Listing {
        let everything = selection.is_everything();
        let limit = if options.limit == 0 {
            usize::MAX
        } else {
            options.limit
        };
        let keep = |object: &Arc<Object>| everything || selection.matches(object);
        let mut found = self
            .resource
            .cache
            .range(&selection.prefix, after, complete, keep, limit);
        if selection.single {
            // The prefix of a whole key also begins longer keys.
            found.objects.truncate(1);
            (found.more, found.remaining) = (false, 0);
        }
        let continue_token = match (found.more, &found.last_key) {
            (true, Some(key)) => {
                let revision = i64::try_from(found.revision).unwrap_or(i64::MAX);
                Some(
                    Token {
                        revision,
                        start: format!("{key}\0"),
                    }
                    .encode(),
                )
            }
            _ => None,
        };
        let remaining = (continue_token.is_some() && everything)
            .then(|| i64::try_from(found.remaining).unwrap_or(i64::MAX));
        let mut items = found.objects;
        if !self.resource.is_stored_version() {
            items
                .iter_mut()
                .for_each(|o| *o = self.resource.conversion.served(o));
        }
        Listing {
            items,
            revision: found.revision,
            continue_token,
            remaining,
        }
    }

    async fn list_stored(
        &self,
        selection: &Selection,
        options: &ListOptions,
        after: Option<&str>,
        mut at: ReadAt,
        expired: &str,
    ) -> Result<Listing, Status> {
        let resource = &self.resource;
        let mut keys = if selection.single {
            KeyRange::key(resource.store_key(&selection.prefix))
        } else {
            KeyRange::prefix(resource.store_key(&selection.prefix))
        };
        if let Some(after) = after {
            keys = keys.after(&resource.store_key(after));
        }
        let everything = selection.is_everything();
        let limit = if options.limit == 0 {
            usize::MAX
        } else {
            options.limit
        };
        let mut items = Vec::new();
        loop {
            let size = u32::try_from(limit.saturating_sub(items.len())).unwrap_or(u32::MAX);
            let size = if everything {
                size.min(PAGE.max(size.min(10_000)))
            } else {
                PAGE
            };
            let page = self
                .server
                .store()
                .range(keys.clone(), at, Some(size))
                .await
                .map_err(|e| match e {
                    orch_store::Error::Compacted { .. } => Status::expired(expired),
                    other => store_status(&other),
                })?;
            at = ReadAt::Exact(page.revision);
            let mut seen = 0;
            for kv in &page.kvs {
                seen += 1;
                let Some(object) = resource.cache.object_at(kv) else {
                    continue;
                };
                if everything || selection.matches(&object) {
                    items.push(resource.conversion.served(&object));
                }
                if items.len() == limit {
                    break;
                }
            }
            let revision = page.revision.0;
            let more = page.more || seen < page.kvs.len();
            let last = page.kvs.get(seen.wrapping_sub(1));
            if items.len() == limit && more {
                let key = last
                    .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
                    .unwrap_or_default();
                let start = key.strip_prefix(resource.cache.prefix()).unwrap_or_default();
                let token = Token {
                    revision: i64::try_from(revision).unwrap_or(i64::MAX),
                    start: format!("{start}\0"),
                };
                let left = page.count.saturating_sub(seen as u64);
                let remaining = everything.then(|| i64::try_from(left).unwrap_or(i64::MAX));
                return Ok(Listing {
                    items,
                    revision,
                    continue_token: Some(token.encode()),
                    remaining,
                });
            }
            let (true, Some(last)) = (page.more, last) else {
                return Ok(Listing {
                    items,
                    revision,
                    continue_token: None,
                    remaining: None,
                });
            };
            keys = keys.after(&last.key);
        }
    }
}
