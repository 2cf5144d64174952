//! The embedded store: one file, WAL, FULL, one writer.
