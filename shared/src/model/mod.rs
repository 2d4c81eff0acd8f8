//! The vocabulary of all sides: validated names, numbers and texts.

pub mod allow_list;
pub mod env;
pub mod id;
pub mod image;
pub mod limits;
pub mod name;
pub mod port;
pub mod probe;
pub mod secret;
pub mod spec;
mod text;
pub mod workload;

pub(crate) use text::text_newtype;
