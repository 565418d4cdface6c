//! Schema facts, defaulting, validation, patching and table printing of the built-in kinds.

pub mod defaults;
pub mod field;
mod json;
pub mod managed;
pub mod patch;
pub mod resources;
pub mod schema;
pub mod strategy;
pub mod table;
pub mod validate;
