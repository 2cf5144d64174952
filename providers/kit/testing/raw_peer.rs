//! A peer made of raw HTTP/2, which can do what no server framework does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a peer does with one stream.
#[derive(Clone, Copy)]
pub(crate) enum Does {
    /// Answers 200 `ok` after a while.
    Answer(Duration),
    /// Answers with this status, this header and this body, at once.
    Reply(u16, (&'static str, &'static str), &'static str),
    /// Takes no further request (GOAWAY, as before a planned restart), and answers 200 `ok` after a while.
    LeaveAndAnswer(Duration),
    /// REFUSED_STREAM.
    Refuse,
    /// Closes the connection without a word.
    HangUp,
    /// Begins an answer and breaks it off.
    HeadOnly,
}

/// A peer on a free port, without TLS. Ends when dropped.
pub(crate) struct Peer {
    pub(crate) base: String,
    pub(crate) connections: Arc<AtomicU32>,
    /// The most streams that were open on one connection at one time.
    pub(crate) most_streams: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a peer. `does` is asked with the number of the connection and of the stream on it, from 0.
#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
pub(crate) async fn peer(max_streams: u32, does: fn(u32, u32) -> Does) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (connections, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (count, most_streams) = (connections.clone(), most.clone());
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(
                stream,
                max_streams,
                move |stream| does(number, stream),
                most_streams.clone(),
            ));
        }
    });
    Peer { base, connections, most_streams: most, task }
}

#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
async fn serve(
    stream: TcpStream,
    max_streams: u32,
    does: impl Fn(u32) -> Does,
    most_streams: Arc<AtomicU32>,
) {
    let mut builder = h2::server::Builder::new();
    let mut connection =
        builder.max_concurrent_streams(max_streams).handshake::<_, Bytes>(stream).await.unwrap();
    let (mut number, active) = (0, Arc::new(AtomicU32::new(0)));
    while let Some(Ok((_, respond))) = connection.accept().await {
        let doing = does(number);
        number += 1;
        match doing {
            Does::HangUp => return,
            Does::LeaveAndAnswer(_) => connection.graceful_shutdown(),
            _ => {}
        }
        most_streams.fetch_max(active.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::spawn(act(doing, respond, active.clone()));
    }
}

async fn act(doing: Does, mut respond: SendResponse<Bytes>, active: Arc<AtomicU32>) {
    match doing {
        Does::Answer(after) | Does::LeaveAndAnswer(after) => {
            tokio::time::sleep(after).await;
            answer(&mut respond, &active);
        }
        Does::Reply(status, (name, value), body) => {
            let head = Response::builder().status(status).header(name, value).body(()).unwrap();
            let mut stream = respond.send_response(head, body.is_empty()).unwrap();
            active.fetch_sub(1, Ordering::SeqCst);
            if !body.is_empty() {
                stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
            }
        }
        Does::Refuse => respond.send_reset(Reason::REFUSED_STREAM),
        Does::HeadOnly => {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            body.send_reset(Reason::INTERNAL_ERROR);
        }
        Does::HangUp => {}
    }
}

fn answer(respond: &mut SendResponse<Bytes>, active: &AtomicU32) {
    let mut body = respond.send_response(Response::new(()), false).unwrap();
    active.fetch_sub(1, Ordering::SeqCst);
    body.send_data(Bytes::from_static(b"ok"), true).unwrap();
}

/// Starts a peer that takes one request on each connection and closes it with GOAWAY: last stream 0, NO_ERROR, and these
/// words.
#[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
pub(crate) async fn leaving_peer(words: &'static str) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU32::new(0));
    let count = connections.clone();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(leave(stream, words));
        }
    });
    Peer { base, connections, most_streams: Arc::default(), task }
}

async fn leave(mut stream: TcpStream, words: &str) {
    // An empty SETTINGS.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut seen = Vec::new();
    // DATA with END_STREAM on the first stream.
    while !seen.windows(6).any(|frame| frame == [0, 1, 0, 0, 0, 1]) {
        if stream.read_buf(&mut seen).await.unwrap() == 0 {
            return;
        }
    }
    let mut frame = vec![0, 0, 8 + words.len() as u8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame.extend_from_slice(words.as_bytes());
    stream.write_all(&frame).await.unwrap();
    while stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {}
}
