//! Schema facts, defaulting, validation, patching and table printing of the built-in kinds.

pub mod field;
pub mod resources;
