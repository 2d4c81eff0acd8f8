//! Brings signed documents to hosts and takes their reports.

mod wake;

pub use wake::Wake;
