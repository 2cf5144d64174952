//! A gateway's callback door: hears what twins report, and answers one thing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What was posted.
pub(crate) type Heard = (HeaderMap, String);

/// The door; it closes when it is dropped.
pub(crate) struct Hearing {
    pub(crate) url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    _tasks: JoinSet<()>,
}

impl Hearing {
    /// Opens it; it answers 200 with this text.
    pub(crate) async fn open(answer: &'static str) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hear = move |State(heard): State<Arc<Mutex<Vec<Heard>>>>, request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            heard.lock().unwrap().push((parts.headers, String::from_utf8(body.to_vec()).unwrap()));
            answer.into_response()
        };
        let router = Router::new().fallback(hear).with_state(heard.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/r", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, heard, _tasks: tasks }
    }

    /// What was heard until now.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until so much was heard.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Heard> {
        for _ in 0..1000 {
            let heard = self.heard();
            if heard.len() >= count {
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} of {count} were heard", self.heard().len());
    }
}
