//! How long the log is, and the alarm where it grows without end.
//!
//! The log begins anew once nobody reads from it any more. Our own reads end after a while (`SqliteOptions::read_timeout`);
//! a stranger's, of a backup that hangs or a forgotten shell, would let it grow until the disk is full.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::LogSize;

/// The log beside the database.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// From here on it is too long.
    alarm_bytes: u64,
    is_long: AtomicBool,
}

impl Log {
    pub(super) fn new(path: PathBuf, alarm_bytes: u64) -> Self {
        Self { path, alarm_bytes, is_long: AtomicBool::default() }
    }

    /// How long it is now.
    pub(super) fn size(&self) -> LogSize {
        LogSize { bytes: self.bytes(), is_long: self.is_long.load(Ordering::Relaxed) }
    }

    fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// What a checkpoint found: so many bytes in use, and whether it could copy all of them. Tells once where the log has
    /// become too long, and once where it may begin anew.
    pub(super) fn look(&self, bytes: u64, is_copied: bool) {
        let is_long = bytes >= self.alarm_bytes && !is_copied;
        if self.is_long.swap(is_long, Ordering::Relaxed) == is_long {
            return;
        }
        let mebibytes = bytes >> 20;
        if is_long {
            tracing::error!(
                "the database's write-ahead log has grown to {mebibytes} MiB and cannot begin anew: somebody keeps \
                 reading an old state. Look for a backup that hangs or a shell that holds {} open",
                self.path.display()
            );
        } else {
            tracing::info!("the database's write-ahead log begins anew, after {mebibytes} MiB");
        }
    }
}
