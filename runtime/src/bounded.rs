//! A listener with a limit on open connections: further clients wait in the kernel's queue, so that
//! they cannot exhaust the agent's file descriptors. A connection that is idle for long, or does
//! not read, is closed so that it cannot keep its place for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Maximum connections on one listener. People and one collector use it, one request at a time.
pub const CONNECTIONS: usize = 64;

/// A connection is closed if no byte moves for this long. Collectors poll about once a minute.
const IDLE: Duration = Duration::from_mins(5);

/// Accepts only while a place is free.
pub struct Bounded<L> {
    listener: L,
    places: Arc<Semaphore>,
}

impl<L> Bounded<L> {
    /// At most `count` connections at once.
    pub fn new(listener: L, count: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(count)) }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Placed<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (io, address) = self.listener.accept().await;
        (Placed { io, idle: Box::pin(sleep(IDLE)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that frees its place when it ends.
pub struct Placed<T> {
    io: T,
    /// When it has been idle for too long.
    idle: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<T> Placed<T> {
    /// Resets the idle timer if bytes moved; otherwise checks it.
    fn moved<R>(
        &mut self,
        context: &mut Context<'_>,
        moved: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if moved.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return moved;
        }
        self.idle.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Placed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        self.moved(context, read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Placed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.moved(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{UnixListener, UnixStream};

    use super::*;

    /// `fm_47`: clients that connect and stay silent take their places and no more.
    #[tokio::test]
    async fn fm_47_accepts_no_more_clients_than_slots() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut bounded = Bounded::new(UnixListener::bind(&path).unwrap(), 2);
        let mut crowd = Vec::new();
        for _ in 0..5 {
            crowd.push(UnixStream::connect(&path).await.unwrap());
        }
        let (first, second) = (bounded.accept().await, bounded.accept().await);
        let third = std::future::poll_fn(|context| {
            let accept = std::pin::pin!(bounded.accept());
            Poll::Ready(accept.poll(context).is_ready())
        });
        assert!(!third.await, "a third one was taken in");
        drop(first);
        let third = bounded.accept().await;
        drop((second, third));
        let mut bytes = Vec::new();
        assert_eq!(crowd[0].read_to_end(&mut bytes).await.unwrap(), 0, "the first one is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn fm_47_an_idle_client_loses_its_slot_and_an_active_one_keeps_it() {
        use tokio::io::AsyncWriteExt as _;
        use tokio::time::timeout;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut bounded = Bounded::new(UnixListener::bind(&path).unwrap(), 2);
        let silent = UnixStream::connect(&path).await.unwrap();
        let (mut first, _) = bounded.accept().await;
        let mut asks = UnixStream::connect(&path).await.unwrap();
        let (mut second, _) = bounded.accept().await;
        let mut byte = [0];
        for _ in 0..3 {
            sleep(IDLE / 2).await;
            asks.write_all(b"x").await.unwrap();
            second.read_exact(&mut byte).await.unwrap();
        }
        let left = timeout(IDLE * 2, first.read(&mut byte)).await.expect("it keeps its place");
        assert_eq!(left.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // And one that does not read.
        let all = vec![0; 16 * 1024 * 1024];
        let left = timeout(IDLE * 2, second.write_all(&all)).await.expect("it keeps its place");
        assert_eq!(left.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(silent);
    }
}
