//! The admin listener: `/metrics`, `/status`, `/ready`, `/healthz`. GET only; no body is read.
//!
//! 1. At most [`CONNECTIONS_MAX`] connections at once, each request within [`REQUEST_MS`].
//! 2. Nothing here changes the agent.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::base::count::Registry;

/// Connections served at once; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 64;

/// A request's head must be there within this many milliseconds.
pub const REQUEST_MS: u64 = 10_000;

/// What the listener tells of the agent.
pub trait StatusSource: Send + Sync {
    /// Brings the sizes of files up to date, which `status` and `series` tell of.
    fn look(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// Everything, for `/status`, as JSON, in pieces.
    fn status(&self) -> Vec<String>;
    /// The series that come and go with their containers, for `/metrics`, in pieces.
    fn series(&self) -> Vec<String>;
    /// Whether the first listing is done.
    ///
    /// # Errors
    /// Why it is not ready.
    fn ready(&self) -> Result<(), String>;
    /// Whether every thread that has work and room turns.
    ///
    /// # Errors
    /// Which does not.
    fn healthy(&self) -> Result<(), String>;
}

/// Serves until `shutdown` turns true or is dropped.
pub async fn serve(
    listener: std::net::TcpListener,
    registry: Arc<Registry>,
    source: Arc<dyn StatusSource>,
    mut shutdown: watch::Receiver<bool>,
) {
    let made = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::TcpListener::from_std(listener));
    let listener = match made {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin listener cannot be used"),
    };
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            _ = shutdown.changed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept; tried again in 100 ms");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (registry, source) = (Arc::clone(&registry), Arc::clone(&source));
        tokio::spawn(async move {
            connection(stream, &registry, &source).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, registry: &Arc<Registry>, source: &Arc<dyn StatusSource>) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let (method, path) = (request.method(), request.uri().path());
        if method == Method::GET && matches!(path, "/metrics" | "/status") {
            source.look().await;
        }
        Ok::<_, Infallible>(answer(method, path, registry, &**source))
    });
    // A client that breaks off is its own affair.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(REQUEST_MS))
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(
    method: &Method,
    path: &str,
    registry: &Registry,
    source: &dyn StatusSource,
) -> Response<Pieces> {
    let text = "text/plain; charset=utf-8";
    let (status, kind, body) = match (method, path) {
        (&Method::GET, "/metrics") => {
            let mut pieces = vec![registry.render()];
            pieces.extend(source.series());
            (StatusCode::OK, "text/plain; version=0.0.4", pieces)
        }
        (&Method::GET, "/status") => (StatusCode::OK, "application/json", source.status()),
        (&Method::GET, "/ready") => state(source.ready(), text),
        (&Method::GET, "/healthz") => state(source.healthy(), text),
        (&Method::GET, _) => {
            let paths = "not found; there are /metrics /status /ready /healthz\n";
            (StatusCode::NOT_FOUND, text, vec![paths.to_owned()])
        }
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            text,
            vec!["only GET\n".to_owned()],
        ),
    };
    let mut answer = Response::new(Pieces::of(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

fn state(said: Result<(), String>, kind: &'static str) -> (StatusCode, &'static str, Vec<String>) {
    match said {
        Ok(()) => (StatusCode::OK, kind, vec!["ok\n".to_owned()]),
        Err(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            kind,
            vec![format!("{why}\n")],
        ),
    }
}

/// An answer's body: what was sent of it is given back at once.
#[derive(Debug)]
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn of(pieces: Vec<String>) -> Self {
        let some = pieces.into_iter().filter(|piece| !piece.is_empty());
        Self(some.map(Bytes::from).collect())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl StatusSource for Fixed {
        fn look(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::ready(()))
        }
        fn series(&self) -> Vec<String> {
            Vec::new()
        }
        fn status(&self) -> Vec<String> {
            vec![serde_json::json!({"rung": "inotify"}).to_string()]
        }
        fn ready(&self) -> Result<(), String> {
            Err("the first listing is under way".to_owned())
        }
        fn healthy(&self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn each_path_answers_and_others_say_what_there_is() {
        let registry = Registry::default();
        registry.counter("a_total", "A.", &[]).add(1);
        let check = |method: Method, path, want| {
            assert_eq!(
                answer(&method, path, &registry, &Fixed).status().as_u16(),
                want,
                "{path}"
            );
        };
        check(Method::GET, "/metrics", 200);
        check(Method::GET, "/status", 200);
        check(Method::GET, "/ready", 503);
        check(Method::GET, "/healthz", 200);
        check(Method::GET, "/", 404);
        check(Method::POST, "/metrics", 405);
    }
}
