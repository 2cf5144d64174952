//! A vendor that does nothing but take: HTTP/2 without TLS, every request is answered 200 at once. It notes when each came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};

/// When requests came.
pub(crate) type Arrivals = Arc<Mutex<Vec<Instant>>>;

/// Starts one in this process: its host and port, and when its requests came.
pub(crate) async fn start() -> anyhow::Result<(String, Arrivals)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = listener.local_addr()?.to_string();
    let arrivals = Arrivals::default();
    let noted = arrivals.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(connection(socket, noted.clone()));
        }
    });
    Ok((origin, arrivals))
}

async fn connection(socket: TcpStream, arrivals: Arrivals) -> anyhow::Result<()> {
    socket.set_nodelay(true)?;
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut answer) = request?;
        arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            let head = Response::builder().status(StatusCode::OK).header("apns-id", "0");
            if let Ok(head) = head.body(())
                && let Ok(mut stream) = answer.send_response(head, false)
            {
                let _ = stream.send_data(Bytes::new(), true);
            }
        });
    }
    Ok(())
}
