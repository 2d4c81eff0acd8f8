//! Visitors: verified TLS to the edge for any name, as a browser would see it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;

/// A request that takes longer has failed.
const SLOWEST: Duration = Duration::from_secs(30);

/// The edge of one host and the CA that verifies its certificates.
#[derive(Debug, Clone)]
pub struct Edge {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The version header of the web app.
    pub fn version(&self) -> Option<&str> {
        self.headers.get("x-version")?.to_str().ok()
    }
}

impl Edge {
    /// Visits `address`, trusting only the certificates in the PEM file `ca`.
    pub fn new(address: SocketAddr, ca: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        let pem = CertificateDer::pem_file_iter(ca);
        for certificate in pem.with_context(|| format!("cannot read {}", ca.display()))? {
            roots.add(certificate?)?;
        }
        ensure!(!roots.is_empty(), "{} holds no certificate", ca.display());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { address, tls: Arc::new(tls) })
    }

    /// A verified TLS connection for `host`.
    pub async fn tls(&self, host: &str) -> anyhow::Result<TlsStream<TcpStream>> {
        let connect = async {
            let stream = TcpStream::connect(self.address).await.context("connect")?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(host.to_owned())?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            connector.connect(name, stream).await.context("TLS handshake")
        };
        tokio::time::timeout(SLOWEST, connect).await.context("connecting took too long")?
    }

    /// A connection for consecutive requests.
    pub async fn connect(&self, host: &str) -> anyhow::Result<Visitor> {
        let stream = self.tls(host).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the visitor, or with the server's close.
        tokio::spawn(connection);
        Ok(Visitor { sender, host: host.to_owned() })
    }

    /// One GET on its own connection.
    pub async fn get(&self, host: &str, path: &str) -> anyhow::Result<Answer> {
        self.connect(host).await?.send(Method::GET, path, Bytes::new()).await
    }

    /// An open WebSocket at `/ws`.
    pub async fn websocket(
        &self,
        host: &str,
    ) -> anyhow::Result<WebSocketStream<TlsStream<TcpStream>>> {
        let stream = self.tls(host).await?;
        let uri = format!("wss://{host}/ws");
        let (socket, _) = tokio_tungstenite::client_async(uri, stream).await?;
        Ok(socket)
    }
}

/// One connection to the edge.
#[derive(Debug)]
pub struct Visitor {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Visitor {
    /// Whether the server has closed the connection since the last answer, as it may between two
    /// requests. A request on a closed one would never leave.
    pub async fn is_closed(&mut self) -> bool {
        self.sender.ready().await.is_err()
    }

    /// One request and its whole answer.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .body(Full::new(body))?;
        let exchange = async {
            let response = self.sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(SLOWEST, exchange).await.context("no answer in time")?
    }
}
