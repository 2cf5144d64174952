//! P-echo: bare servers that hold connections. One gives back the bytes that it gets: what it costs to hold a connection at all.
//! One greets WebSockets and then hears of nothing: what it costs that they are WebSockets.

use std::net::Ipv4Addr;

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Says where it is, and answers until it is killed.
pub(super) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (mut socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                if socket.write_all(&buffer[..count]).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// The same for WebSockets of phones; whoever they say they are.
pub(super) async fn websockets() -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let greet = async |upgrade: WebSocketUpgrade| {
        upgrade.protocols(["anypush.v1"]).read_buffer_size(1024).write_buffer_size(0).on_upgrade(
            async |mut socket| {
                let hello = Message::text(r#"{"hello": {"heartbeat_seconds": 240}}"#);
                if socket.send(hello).await.is_ok() {
                    while let Some(Ok(_)) = socket.recv().await {}
                }
            },
        )
    };
    axum::serve(listener, Router::new().route("/v1/device/socket", get(greet))).await?;
    Ok(())
}
