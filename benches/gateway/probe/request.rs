//! A connection of HTTP/1.1 with one request under way: less work for the caller than a client that can do everything.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// It closes when it is dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<Result<(), hyper::Error>>,
}

impl Connection {
    pub(super) async fn open(origin: &str) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(origin).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        Ok(Self { sender, driver: tokio::spawn(connection) })
    }

    pub(super) async fn call(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        Ok((response.status(), response.into_body().collect().await?.to_bytes()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A post of JSON.
pub(super) fn posted(
    origin: &str,
    path: &str,
    key: &str,
    body: impl Into<Bytes>,
) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::post(path).header("host", origin).header("authorization", format!("Bearer {key}"));
    Ok(request.header("content-type", "application/json").body(Full::new(body.into()))?)
}

/// A question.
pub(super) fn asked(origin: &str, path: &str, key: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::get(path).header("host", origin).header("authorization", format!("Bearer {key}"));
    Ok(request.body(Full::new(Bytes::new()))?)
}
