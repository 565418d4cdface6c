//! The generic registry: create, get, list, watch, update, patch, delete for every kind, once, over the store.
//!
//! A request runs in a [`Scope`]: who asks for which resource. What is particular about a kind is behind
//! [`Strategy`]; what is particular about a request's parameters is in [`options`]. All writes go through
//! [`write`], which compares and swaps; all reads come from the watch caches, or from the store where the exact
//! revision asked for is not in the cache.

pub(crate) mod body;
mod convert;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod list;
pub(crate) mod meta;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod owners;
pub(crate) mod patch;
pub(crate) mod resource;
pub(crate) mod scope;
pub(crate) mod select;
pub(crate) mod strategy;
pub(crate) mod sub;
pub(crate) mod token;
pub(crate) mod update;
pub(crate) mod watch;
pub(crate) mod write;

pub(crate) use resource::Resource;
pub(crate) use scope::Scope;
pub(crate) use strategy::Strategy;
