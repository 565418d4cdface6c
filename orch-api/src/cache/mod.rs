//! Watch caches: every stored object in memory, fed by one watch of the store.
//!
//! - [`feed::Caches`] follows the store's `/registry/` once for the whole server, and hands each change to the
//!   [`resource::Cache`] of its resource. Its revision says up to where *all* caches are complete, so an idle
//!   resource is never behind.
//! - A [`resource::Cache`] holds the objects of one resource in key order and the recent changes. A watcher is a
//!   [`cursor::Cursor`] into those changes: it holds a number, not a queue, and costs nobody anything when slow. One
//!   that is overtaken by the end of history is cut off.
//! - What this server writes itself is not decoded again: see [`pending`].

mod cursor;
mod feed;
mod pending;
mod resource;

pub(crate) use cursor::Cursor;
pub(crate) use feed::Caches;
pub(crate) use pending::{Pending, at_revision};
pub(crate) use resource::{Cache, Change};
