//! Background work that shutdown waits for.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::bulk::Bulk;

/// Starts tasks and ends them: first they are told to stop, then they are waited for. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a task. A panic in it is caught at its border and logged; the others go on.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        self.watch(name, tokio::spawn(work));
    }

    /// Starts a task that is for nobody in particular and may take long.
    pub fn spawn_bulk(
        &self,
        bulk: &Bulk,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.watch(name, bulk.spawn(work));
    }

    fn watch(&self, name: &'static str, handle: JoinHandle<()>) {
        self.tracker.spawn(async move {
            if let Err(error) = handle.await
                && error.is_panic()
            {
                tracing::error!(task.name = name, "a task panicked");
            }
        });
    }

    /// Counts work that somebody else has started, until it is dropped: shutdown waits for it too.
    pub fn guard(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Resolves when the process is to stop.
    pub fn stopped(&self) -> WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }

    /// Whether the process is to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells all tasks to stop, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for all tasks; `false` where some were still running at the deadline.
    pub async fn wait(&self, deadline: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}
