//! P-http: a server of the same kind that reads the same JSON, answers 202, and keeps nothing.

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Answers until the process is ended; says first where.
pub(super) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let take = async |Json(body): Json<Value>| {
        let known = body["to"].is_object();
        (
            StatusCode::ACCEPTED,
            Json(json!({"id": "msg_01k4a8r8x6f8ya5h5v3w2c1d0e", "state": "sending", "known": known})),
        )
    };
    axum::serve(listener, Router::new().route("/v1/messages", post(take))).await?;
    Ok(())
}
