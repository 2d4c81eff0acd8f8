//! Ends of processes.

use std::future::Future;
use std::pin::Pin;

use crate::model::container::Process;

/// Process exits, reported the moment they happen.
pub trait ProcessExits: Send + Sync + 'static {
    /// Ready once this process has ended. `None`: exits cannot be watched here.
    fn exit(&self, process: &Process) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>>;
}
