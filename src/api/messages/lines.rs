//! A batch's body of lines, read as it comes. What a line may be is decided before it is kept: memory is bounded by one
//! line, whatever the sender does.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;

use crate::api::ndjson::{Cut, Split};

/// Longest time without a byte.
const SILENCE: Duration = Duration::from_secs(10);

/// Lines of a body.
pub(super) struct Lines {
    body: Body,
    split: Split,
    /// Nothing more comes; what did may hold more lines.
    ended: bool,
    /// Nothing more is read.
    over: bool,
    /// Bytes that may still come.
    left: usize,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line that is not empty, without its end.
    Text(Bytes),
    /// A line that is too long; what comes after it is read on.
    TooLong,
    /// The body is too large: nothing more is read.
    TooMuch,
    /// Nothing came for too long: nothing more is read.
    Silent,
}

impl From<Cut> for Line {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Text(text) => Self::Text(text),
            Cut::TooLong => Self::TooLong,
        }
    }
}

impl Lines {
    /// Lines of at most so many bytes, in a body of at most so many.
    pub(super) fn new(body: Body, most_line: usize, most: usize) -> Self {
        Self { body, split: Split::new(most_line), ended: false, over: false, left: most }
    }

    /// The next line; `None` at the end, also where the sender went away in the middle of a line: that line is gone.
    /// May be dropped while it waits, and called again.
    pub(super) async fn next(&mut self) -> Option<Line> {
        while !self.over {
            if let Some((_, cut)) = self.split.next() {
                return Some(cut.into());
            }
            if self.ended {
                return self.split.rest().map(|(_, cut)| cut.into());
            }
            match tokio::time::timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Some(self.end(Line::Silent)),
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let Some(left) = self.left.checked_sub(data.len()) else {
                        return Some(self.end(Line::TooMuch));
                    };
                    self.left = left;
                    self.split.push(&data);
                }
                // Whoever went away in the middle of a line meant no line.
                Ok(Some(Err(_))) => {
                    self.split.forget();
                    self.ended = true;
                }
                Ok(None) => self.ended = true,
            }
        }
        None
    }

    fn end(&mut self, why: Line) -> Line {
        self.over = true;
        why
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    /// Reads a body that comes in these parts; lines of at most 8 bytes, 40 in all.
    async fn read(parts: &[&'static str], breaks_off: bool) -> Vec<String> {
        let parts: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect();
        let end = breaks_off.then(|| Err(std::io::Error::other("gone")));
        let mut lines = Lines::new(Body::from_stream(stream::iter(parts.into_iter().chain(end))), 8, 40);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await {
            found.push(match line {
                Line::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                other => format!("{other:?}"),
            });
        }
        found
    }

    #[tokio::test]
    async fn lines_are_the_same_however_they_are_cut_on_the_way() {
        assert_eq!(read(&["one\ntwo\r\n\n", "thr", "ee"], false).await, ["one", "two", "three"]);
        assert_eq!(read(&["o", "n", "e", "\n", "t", "wo", "\n", " \n"], false).await, ["one", "two"]);
        assert!(read(&[], false).await.is_empty());
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_costs_itself_alone() {
        assert_eq!(read(&["12345678\n123456789\nok\n"], false).await, ["12345678", "TooLong", "ok"]);
        assert_eq!(read(&["1234567", "8901234", "567\nok"], false).await, ["TooLong", "ok"]);
        assert_eq!(read(&["123456789"], false).await, ["TooLong"]);
    }

    #[tokio::test]
    async fn too_much_ends_it_and_a_line_that_broke_off_is_none() {
        assert_eq!(
            read(&["a\n", "x", "12345678901234567890\n", "12345678901234567890\n", "b\n"], false).await,
            ["a", "TooLong", "TooMuch"]
        );
        assert_eq!(read(&["a\n", "b"], true).await, ["a"]);
    }
}
