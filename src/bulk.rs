//! Threads for what nobody waits for in particular: audiences that are walked, pages of campaigns, and every talk with a
//! vendor, because its connections serve campaigns too.
//!
//! A campaign is worth every core for minutes. On threads of its own it cannot keep a login code or a caller of the API
//! waiting: who seldom runs is let in by the system at once, while in one queue it would stand behind thousands of small
//! steps, at each of its own.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// The way to these threads. They end when the last way to them is dropped. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Bulk {
    handle: Handle,
    /// `None`: it is somebody else's runtime.
    _own: Option<Arc<Own>>,
}

#[derive(Debug)]
struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        // Whoever drops it last may be one of its own threads, which cannot wait for itself.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bulk {
    /// Starts them, one for each core.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("anypush-bulk")
            // What comes from other threads (a login code, an answer of the database) is looked at before each of its own
            // steps, not after thirty: a step may be a page of a thousand.
            .global_queue_interval(1)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), _own: Some(Arc::new(Own(Some(runtime)))) })
    }

    /// Does without: what is given to it runs where it is made. For tests.
    pub fn here() -> Self {
        Self { handle: Handle::current(), _own: None }
    }

    /// Runs something there and waits for it. What nobody waits for any more ends; a panic goes on to the caller.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let task = AbortOnDropHandle::new(self.handle.spawn(work));
        match task.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // These threads are about to end, and the process with them.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Starts something there; its caller sees to it that shutdown waits for it.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(work)
    }
}
