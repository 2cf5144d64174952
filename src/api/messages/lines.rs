//! A body of lines, read as it comes. What a line may be is decided before it is kept: memory is bounded by one line,
//! whatever the sender does.

use std::time::Duration;

use axum::body::{Body, Bytes};
use bytes::{Buf as _, BytesMut};
use http_body_util::BodyExt as _;

/// Longest time without a byte.
const SILENCE: Duration = Duration::from_secs(10);

/// Lines of a body.
pub(super) struct Lines {
    body: Body,
    kept: BytesMut,
    /// How far `kept` was looked at.
    seen: usize,
    /// The line is too long: nothing of it is kept.
    skipping: bool,
    ended: bool,
    /// Bytes that may still come.
    left: usize,
    most_line: usize,
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

impl Lines {
    /// Lines of at most so many bytes, in a body of at most so many.
    pub(super) fn new(body: Body, most_line: usize, most: usize) -> Self {
        let kept = BytesMut::new();
        Self { body, kept, seen: 0, skipping: false, ended: false, left: most, most_line }
    }

    /// The next line; `None` at the end, also where the sender went away in the middle of a line: that line is gone.
    /// May be dropped while it waits, and called again.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.cut() {
                return Some(line);
            }
            if self.ended {
                return self.last();
            }
            match tokio::time::timeout(SILENCE, self.body.frame()).await {
                Err(_) => return Some(self.end(Line::Silent)),
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let Some(left) = self.left.checked_sub(data.len()) else {
                        return Some(self.end(Line::TooMuch));
                    };
                    self.left = left;
                    self.kept.extend_from_slice(&data);
                }
                // Whoever went away in the middle of a line meant no line.
                Ok(Some(Err(_))) => {
                    self.kept.clear();
                    self.seen = 0;
                    self.ended = true;
                }
                Ok(None) => self.ended = true,
            }
        }
    }

    /// The next whole line of what is there.
    fn cut(&mut self) -> Option<Line> {
        loop {
            let Some(at) = self.kept[self.seen..].iter().position(|byte| *byte == b'\n') else {
                self.seen = self.kept.len();
                if self.seen > self.most_line {
                    self.skipping = true;
                    self.kept.clear();
                    self.seen = 0;
                }
                return None;
            };
            let line = self.kept.split_to(self.seen + at).freeze();
            self.kept.advance(1);
            self.seen = 0;
            if let Some(line) = self.judge(&line) {
                return Some(line);
            }
        }
    }

    /// What a line without its end is; an empty one is nothing.
    fn judge(&mut self, line: &Bytes) -> Option<Line> {
        if std::mem::take(&mut self.skipping) || line.len() > self.most_line {
            return Some(Line::TooLong);
        }
        let line = line.strip_suffix(b"\r").map_or_else(|| line.clone(), |text| line.slice_ref(text));
        (!line.iter().all(u8::is_ascii_whitespace)).then_some(Line::Text(line))
    }

    /// What stands behind the last line's end.
    fn last(&mut self) -> Option<Line> {
        let line = self.kept.split().freeze();
        self.seen = 0;
        self.judge(&line)
    }

    fn end(&mut self, why: Line) -> Line {
        self.kept.clear();
        self.ended = true;
        self.skipping = false;
        self.seen = 0;
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
