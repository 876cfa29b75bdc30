//! The map: where each block of each layer lies, what was written since the last checkpoint, and how a read at a
//! snapshot finds its way.

pub mod cache;
pub mod home;
pub mod overlay;
pub mod resolve;
pub mod said;
pub mod store;
pub mod view;
pub mod walk;

pub use crate::format::page::{Entry, Page};
