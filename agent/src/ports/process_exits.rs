//! Ends of processes.

use std::future::Future;
use std::pin::Pin;

use crate::model::container::Process;

/// The ends of processes, told the moment they happen.
pub trait ProcessExits: Send + Sync + 'static {
    /// Ready once this process has ended. `None`: that is not told here.
    fn exit(&self, process: &Process) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>>;
}
