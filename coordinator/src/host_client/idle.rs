//! A deadline that starts over with each sign of life.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Runs only while somebody waits: a reader that does something else in between is not idle, and
/// neither is the host.
#[derive(Debug)]
pub(super) struct Idle {
    within: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    /// `None`: waits for as long as the connection lives.
    pub(super) fn new(within: Option<Duration>) -> Self {
        Self { within, sleep: None }
    }

    /// Something came.
    pub(super) fn moved(&mut self) {
        self.sleep = None;
    }

    /// Ready with the deadline once nothing has come within it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        let Some(within) = self.within else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(within)));
        sleep.as_mut().poll(cx).map(|()| within)
    }
}
