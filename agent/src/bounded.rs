//! A listener with so many connections at most: whoever else comes waits in the kernel's queue, so
//! that no crowd of clients takes the agent's file descriptors.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once on one listener. People and one collector ask, each a question at a time.
pub(crate) const CONNECTIONS: usize = 64;

/// Accepts only while there is a place.
pub(crate) struct Bounded<L> {
    listener: L,
    places: Arc<Semaphore>,
}

impl<L> Bounded<L> {
    /// `count` connections at once.
    pub(crate) fn new(listener: L, count: usize) -> Self {
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
        (Placed { io, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that gives its place back when it ends.
pub(crate) struct Placed<T> {
    io: T,
    _place: Option<OwnedSemaphorePermit>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Placed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Placed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
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

    /// `fm_47`: clients that connect and say nothing take their places and no more.
    #[tokio::test]
    async fn fm_47_a_crowd_of_clients_takes_no_more_than_its_places() {
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
}
