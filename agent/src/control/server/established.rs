//! Connections of coordinators. There are several: each coordinator has one to each host, and
//! briefly two; one of them pushes, the others read.
//!
//! A newcomer is always let in, since what holds the slot may be dead without anybody having
//! noticed. Who goes for it: first a connection without a call in progress, then the one that was
//! silent for the longest. Live coordinators ping, so a dead connection goes before any of theirs
//! with calls.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Enough for four coordinators that all reconnect at once.
pub(super) const MAX_ESTABLISHED: usize = 8;

/// All of them. Clones share all state.
#[derive(Debug, Clone, Default)]
pub(super) struct Established(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    number: u64,
    all: Vec<One>,
}

#[derive(Debug)]
struct One {
    number: u64,
    ended: CancellationToken,
    activity: Activity,
}

/// A connection that was let in, until this is dropped.
#[derive(Debug)]
pub(super) struct Admission {
    all: Established,
    number: u64,
    ended: CancellationToken,
    pub(super) activity: Activity,
}

impl Established {
    /// Admits a connection; another may have to end for it.
    pub(super) fn admit(&self) -> Admission {
        let mut state = self.state();
        if state.all.len() >= MAX_ESTABLISHED {
            let goes = (0..state.all.len()).min_by_key(|at| state.all[*at].activity.rank());
            if let Some(goes) = goes {
                state.all.remove(goes).ended.cancel();
            }
        }
        state.number += 1;
        let (number, ended, activity) =
            (state.number, CancellationToken::new(), Activity::default());
        let one = One { number, ended: ended.clone(), activity: activity.clone() };
        state.all.push(one);
        Admission { all: self.clone(), number, ended, activity }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Ready when it has to make way for another.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.all.state().all.retain(|one| one.number != self.number);
    }
}

/// What a connection does.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    begun: Instant,
    calls: AtomicUsize,
    /// When something last came, in milliseconds since `begun`.
    heard: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        let (calls, heard) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(Counts { begun: Instant::now(), calls, heard }))
    }
}

impl Activity {
    /// A call is in progress, until the answer is dropped.
    pub(super) fn call(&self) -> CallInProgress {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        CallInProgress(self.clone())
    }

    fn hear(&self) {
        let since = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heard.store(since, Ordering::Relaxed);
    }

    /// The least goes first.
    fn rank(&self) -> (bool, Instant) {
        let heard = std::time::Duration::from_millis(self.0.heard.load(Ordering::Relaxed));
        (self.0.calls.load(Ordering::Relaxed) > 0, self.0.begun + heard)
    }
}

#[derive(Debug)]
pub(super) struct CallInProgress(Activity);

impl Drop for CallInProgress {
    fn drop(&mut self) {
        self.0.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl CallInProgress {
    /// The body with which the call ends.
    pub(super) fn until_end_of<B>(self, body: B) -> Counted<B> {
        Counted { body, _call: self }
    }
}

/// A body that counts as a call in progress.
#[derive(Debug)]
pub(super) struct Counted<B> {
    body: B,
    _call: CallInProgress,
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that tells what is heard on it.
#[derive(Debug)]
pub(super) struct Heard<S> {
    stream: S,
    activity: Activity,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            this.activity.hear();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn is_out(admission: &Admission) -> bool {
        admission.ended.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_nothing_goes_first_then_who_was_silent_for_the_longest() {
        let all = Established::default();
        let admissions: Vec<Admission> = (0..MAX_ESTABLISHED).map(|_| all.admit()).collect();
        // All but two have calls; of the two, the first was heard last.
        let calls: Vec<_> =
            admissions[2..].iter().map(|admission| admission.activity.call()).collect();
        tokio::time::advance(Duration::from_secs(1)).await;
        admissions[0].activity.hear();
        let _newest = [all.admit(), all.admit()].map(|newest| {
            let call = newest.activity.call();
            (newest, call)
        });
        assert!(is_out(&admissions[1]) && is_out(&admissions[0]));
        // From now on all have calls, and one of them was not heard for long: it is dead.
        tokio::time::advance(Duration::from_secs(1)).await;
        for admission in &admissions[2..] {
            if admission.number != admissions[5].number {
                admission.activity.hear();
            }
        }
        let live = all.admit();
        assert!(is_out(&admissions[5]));
        let out = admissions.iter().filter(|admission| is_out(admission)).count();
        assert_eq!(out, 3);
        // Places that are given back are free.
        drop((admissions, calls, live));
        let again: Vec<Admission> = (0..MAX_ESTABLISHED - 2).map(|_| all.admit()).collect();
        assert!(!again.iter().any(is_out));
    }
}
