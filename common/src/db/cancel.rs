//! Asking the server to stop a statement, over a connection of its own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::CancelToken;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Where exactly a connection ended: a cancel request must go to the same server, not to the same name.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Sends the request and waits until the other side has taken it. `host` is the name for TLS.
pub(super) async fn cancel(
    token: &CancelToken,
    peer: &Peer,
    mut tls: MakeRustlsConnect,
    host: &str,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let socket: Box<dyn Socket> = match peer {
        Peer::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        Peer::Unix(path) => Box::new(UnixStream::connect(path).await?),
    };
    let stream = Patient(socket);
    let tls = MakeTlsConnect::<Patient>::make_tls_connect(&mut tls, host)?;
    Ok(token.cancel_query_raw(stream, tls).await?)
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A stream that is not shut down before the other side has ended it. The driver hangs up as soon as its
/// request is written, and `PgBouncer` throws the request of a client that has gone away.
struct Patient(Box<dyn Socket>);

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut bytes = [0; 64];
            let mut buf = ReadBuf::new(&mut bytes);
            // An error is an end, too: the server may just reset the connection.
            let read = ready!(Pin::new(&mut self.0).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Pin::new(&mut self.0).poll_shutdown(cx).map(|_| Ok(()));
            }
        }
    }
}
