//! Makes connections: straight or through a proxy, plain or TLS, each phase with its time.
//!
//! ```text
//! look up, connect -> [TLS to the proxy -> CONNECT] -> [TLS to the server] -> Line
//! ```
//!
//! 1. A name is looked up anew for each connection (getaddrinfo, so its cache alone counts). Of two
//!    families the second is tried 300 ms after the first (RFC 8305's happy eyeballs, as hyper-util
//!    has them); addresses of one family share the time evenly and are tried in turn.
//! 2. A plain `http` URL goes through a proxy as a whole, `https` in a tunnel.

use std::error::Error as StdError;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::chain;

type BoxError = Box<dyn StdError + Send + Sync>;

/// To the server, or to a proxy: plain or TLS.
type Hop = MaybeHttpsStream<TokioIo<TcpStream>>;

/// What an output's connections are made with.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector,
    pub(super) proxies: Arc<Matcher>,
    /// None where nothing is `https`.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// In place of the URL's host.
    pub(super) server_name: Option<ServerName<'static>>,
    connect_timeout: Duration,
    tls_timeout: Duration,
}

impl Connector {
    pub(super) fn new(proxies: Arc<Matcher>, connect_timeout: Duration, tls: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        Self {
            tcp,
            proxies,
            tls: None,
            server_name: None,
            connect_timeout,
            tls_timeout: tls,
        }
    }

    async fn connect(mut self, dst: Uri) -> Result<Line, BoxError> {
        let is_tls = match dst.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err("its scheme is neither http nor https".into()),
        };
        let proxy = self.proxies.intercept(&dst);
        let hop = match &proxy {
            None => MaybeHttpsStream::Http(self.tcp(dst.clone()).await?),
            Some(proxy) => {
                let told = |why: BoxError| -> BoxError {
                    let why = chain(why.as_ref());
                    format!("by the proxy {}: {why}", place(proxy.uri())).into()
                };
                let hop = self.dial_proxy(proxy.uri()).await.map_err(told)?;
                if is_tls {
                    let auth = proxy.basic_auth().cloned();
                    self.tunnel(hop, proxy.uri(), auth, dst.clone())
                        .await
                        .map_err(told)?
                } else {
                    hop
                }
            }
        };
        if !is_tls {
            let whole = proxy.is_some();
            let stream = MaybeHttpsStream::Http(hop);
            return Ok(Line { stream, whole });
        }
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => host_name(&dst)?,
        };
        let stream = self.tls(name, hop).await?;
        let whole = false;
        Ok(Line { stream, whole })
    }

    /// Looks up and connects.
    async fn tcp(&mut self, dst: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        match tokio::time::timeout(self.connect_timeout, self.tcp.call(dst)).await {
            Ok(end) => Ok(end?),
            Err(_) => Err(late("no connection", self.connect_timeout)),
        }
    }

    async fn dial_proxy(&mut self, proxy: &Uri) -> Result<Hop, BoxError> {
        let is_tls = match proxy.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => {
                return Err("its scheme is neither http nor https: no other is spoken".into());
            }
        };
        let tcp = self.tcp(proxy.clone()).await?;
        if is_tls {
            self.tls(host_name(proxy)?, tcp).await
        } else {
            Ok(MaybeHttpsStream::Http(tcp))
        }
    }

    async fn tunnel(
        &self,
        hop: Hop,
        proxy: &Uri,
        auth: Option<http::HeaderValue>,
        dst: Uri,
    ) -> Result<Hop, BoxError> {
        let mut tunnel = Tunnel::new(proxy.clone(), Made(Some(hop)));
        if let Some(auth) = auth {
            tunnel = tunnel.with_auth(auth);
        }
        match tokio::time::timeout(self.connect_timeout, tunnel.call(dst)).await {
            Ok(end) => Ok(end?),
            Err(_) => Err(late("no answer to CONNECT", self.connect_timeout)),
        }
    }

    async fn tls<S>(
        &self,
        name: ServerName<'static>,
        stream: S,
    ) -> Result<MaybeHttpsStream<S>, BoxError>
    where
        S: Read + Write + Unpin,
    {
        let config = self.tls.as_ref().ok_or("TLS is not set up")?;
        let connector = TlsConnector::from(Arc::clone(config));
        let hands = connector.connect(name, TokioIo::new(stream));
        match tokio::time::timeout(self.tls_timeout, hands).await {
            Ok(end) => Ok(MaybeHttpsStream::from(end?)),
            Err(_) => Err(late("no end of the TLS handshake", self.tls_timeout)),
        }
    }
}

fn late(what: &str, limit: Duration) -> BoxError {
    format!("{what} in {} ms", limit.as_millis()).into()
}

fn place(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}

fn host_name(uri: &Uri) -> Result<ServerName<'static>, BoxError> {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    Ok(ServerName::try_from(bare.to_owned())?)
}

impl Service<Uri> for Connector {
    type Response = Line;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Line, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, dst: Uri) -> Self::Future {
        Box::pin(self.clone().connect(dst))
    }
}

/// Gives a connection that is there already to the tunnel's maker.
struct Made(Option<Hop>);

impl Service<Uri> for Made {
    type Response = Hop;
    type Error = io::Error;
    type Future = std::future::Ready<Result<Hop, io::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _proxy: Uri) -> Self::Future {
        let hop = self.0.take();
        std::future::ready(hop.ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// A connection that requests are written to.
#[derive(Debug)]
pub(super) struct Line {
    stream: MaybeHttpsStream<Hop>,
    /// A proxy is at its end, which wants whole URLs.
    whole: bool,
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.whole)
    }
}

impl Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}
