//! The minimal TLS server on this machine: hyper and rustls on one thread, the same bytes each
//! time. Its requests per second are the baseline for any server's figure.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::time::{ClockId, clock_gettime};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::edge::Edge;

/// A server on its own thread, until it is asked for its processor time.
pub(super) struct Bare {
    address: SocketAddr,
    ca: tempfile::NamedTempFile,
    stop: CancellationToken,
    thread: JoinHandle<anyhow::Result<Duration>>,
}

impl Bare {
    /// Answers every request with `body`.
    pub(super) fn start(body: Bytes) -> anyhow::Result<Self> {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let mut ca = tempfile::NamedTempFile::new()?;
        std::io::Write::write_all(&mut ca, certified.cert.pem().as_bytes())?;
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let (address, stop) = (listener.local_addr()?, CancellationToken::new());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(listener, TlsAcceptor::from(Arc::new(tls)), body, stopped))?;
            Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
        });
        Ok(Self { address, ca, stop, thread })
    }

    /// Its address.
    pub(super) fn door(&self) -> anyhow::Result<Edge> {
        Edge::new(self.address, self.ca.path())
    }

    /// Ends it; returns the processor time it used.
    pub(super) fn end(self) -> anyhow::Result<Duration> {
        self.stop.cancel();
        self.thread.join().map_err(|_panic| anyhow!("the bare server has panicked"))?
    }
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    body: Bytes,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (stream, _) = accepted.context("accept")?;
        stream.set_nodelay(true)?;
        let (tls, body) = (tls.clone(), body.clone());
        // Ends with its client, or with the thread.
        tokio::spawn(async move {
            let answer = service_fn(move |_request| {
                let answer = Response::new(Full::new(body.clone()));
                async move { Ok::<_, Infallible>(answer) }
            });
            let stream = TokioIo::new(tls.accept(stream).await?);
            anyhow::Ok(http1::Builder::new().serve_connection(stream, answer).await?)
        });
    }
}
