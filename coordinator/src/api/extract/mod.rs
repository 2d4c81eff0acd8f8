//! Extractors: from requests to principals and values. A refusal names the field and the fix.

pub mod caller;
pub(crate) mod form;
pub mod json;
pub(crate) mod paging;
pub(crate) mod path;
pub mod principal;
