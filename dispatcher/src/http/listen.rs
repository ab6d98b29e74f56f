//! Listen: connections, with bounds on headers, idle clients and their number; and how serving ends.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tidemill_common::service::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 16_384;
/// Bytes of a request's headers, its first line included.
const HEADER_BYTES: usize = 32 << 10;
/// The longest time for the headers of a request, and for the next request of a connection.
const HEADER_WAIT: Duration = Duration::from_secs(60);
/// The longest time for a TLS handshake.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// Requests at a time over one HTTP/2 connection.
const STREAMS: u32 = 256;

/// Serves until shutdown is wanted, and then until the running requests are answered.
///
/// # Errors
/// The listener is broken.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    shutdown: Shutdown,
) -> io::Result<()> {
    let builder = builder();
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = std::sync::Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = shutdown.wanted() => break,
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let client = Client {
                        builder: builder.clone(),
                        tls: tls.clone(),
                        router: router.clone(),
                        watcher: graceful.watcher(),
                        shutdown: shutdown.clone(),
                    };
                    connections.spawn(async move {
                        client.serve(stream).await;
                        drop(place);
                    });
                }
                Err(error) if concerns_one_client(&error) => {}
                // Out of files or memory: it passes when connections end.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    if connections.join_next().await.is_none() {
                        return Err(error);
                    }
                }
            },
            Some(ended) = connections.join_next() => report(ended),
        }
    }
    // First no new ones.
    drop(listener);
    graceful.shutdown().await;
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
    Ok(())
}

/// A connection whose handler panicked took its client's request with it: a defect, whatever the request was.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a request's handler panicked");
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WAIT)
        .max_buf_size(HEADER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_WAIT)
        .max_header_list_size(HEADER_BYTES as u32)
        .max_concurrent_streams(STREAMS);
    builder
}

/// Who has connected.
struct Client {
    builder: Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    router: Router,
    watcher: Watcher,
    shutdown: Shutdown,
}

impl Client {
    async fn serve(self, stream: TcpStream) {
        // Answers are small and complete: they must not wait for one another. A socket that is gone fails later anyway.
        drop(stream.set_nodelay(true));
        let Some(tls) = self.tls.clone() else { return self.answer(stream).await };
        let handshake = timeout(HANDSHAKE_WAIT, tls.accept(stream));
        let greeted = tokio::select! {
            () = self.shutdown.wanted() => return,
            greeted = handshake => greeted,
        };
        // Who does not get through the handshake is told so by the protocol itself.
        if let Ok(Ok(stream)) = greeted {
            self.answer(stream).await;
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = TowerToHyperService::new(self.router);
        let connection = self.builder.serve_connection(TokioIo::new(stream), service).into_owned();
        // How a client leaves is its own affair.
        drop(self.watcher.watch(connection).await);
    }
}

fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
