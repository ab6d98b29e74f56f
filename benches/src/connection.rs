//! One HTTP/1.1 connection of a worker that is written for it: no pool, no redirects, no URL to parse for each request.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(crate) struct Connection {
    requests: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

impl Connection {
    /// Opens a connection to `address`, host and port.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("connect to the dispatcher")?;
        stream.set_nodelay(true)?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the connection; what goes wrong there, the next request tells.
        #[expect(clippy::disallowed_methods, reason = "a connection of the benchmark's own client")]
        drop(tokio::spawn(connection));
        Ok(Self { requests, host: HeaderValue::from_str(address)? })
    }

    /// Sends JSON; the answer's body.
    ///
    /// # Errors
    /// The connection broke, or the answer is no success.
    pub(crate) async fn post(&mut self, path: &'static str, body: String) -> Result<Bytes> {
        let request = Request::post(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::from(body))?;
        self.requests.ready().await?;
        let answer = self.requests.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}
