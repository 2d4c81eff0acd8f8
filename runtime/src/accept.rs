//! A loop that accepts connections, bounded.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Delay after a connection could not be accepted, most likely for lack of file descriptors: some
/// must close first.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves each connection in its own task until `stop`; returns the tasks that still run.
///
/// At most `places` are served at once; further connections wait in the socket's queue. A task
/// holds its place as long as it keeps the permit.
pub async fn each<Task>(
    listener: &TcpListener,
    places: usize,
    stop: &CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr, OwnedSemaphorePermit) -> Task,
) -> JoinSet<()>
where
    Task: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(places));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let accept = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await.map_err(std::io::Error::other)?;
            listener.accept().await.map(|(stream, peer)| (stream, peer, place))
        };
        let Some(accepted) = stop.run_until_cancelled(accept).await else { return tasks };
        match accepted {
            Ok((stream, peer, place)) => {
                tasks.spawn(serve(stream, peer, place));
            }
            Err(error) => {
                tracing::warn!(reason = %error, "a connection was not accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
