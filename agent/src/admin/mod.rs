//! The admin listener: `/metrics`, `/status`, `/ready`, `/healthz`. GET only; no body is read.
//!
//! 1. At most [`CONNECTIONS_MAX`] connections at once, each request within [`REQUEST_MS`].
//! 2. Nothing here changes the agent.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
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
    /// Everything, for `/status`, as JSON.
    fn status(&self) -> String;
    /// `text` and the series that come and go with their containers, for `/metrics`.
    fn series(&self, text: String) -> String;
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
) -> Response<Full<Bytes>> {
    let text = "text/plain; charset=utf-8";
    let (status, kind, body) = match (method, path) {
        (&Method::GET, "/metrics") => (
            StatusCode::OK,
            "text/plain; version=0.0.4",
            source.series(registry.render()),
        ),
        (&Method::GET, "/status") => (StatusCode::OK, "application/json", source.status()),
        (&Method::GET, "/ready") => state(source.ready(), text),
        (&Method::GET, "/healthz") => state(source.healthy(), text),
        (&Method::GET, _) => {
            let paths = "not found; there are /metrics /status /ready /healthz\n";
            (StatusCode::NOT_FOUND, text, paths.to_owned())
        }
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            text,
            "only GET\n".to_owned(),
        ),
    };
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}

fn state(said: Result<(), String>, kind: &'static str) -> (StatusCode, &'static str, String) {
    match said {
        Ok(()) => (StatusCode::OK, kind, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, kind, format!("{why}\n")),
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
        fn series(&self, text: String) -> String {
            text
        }
        fn status(&self) -> String {
            serde_json::json!({"rung": "inotify"}).to_string()
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
