//! Bodies of one JSON value a line, read as they arrive.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::problem::{Answer, Problem};

/// Longest line.
pub(super) const LINE_BYTES: usize = 64 * 1024;
/// How answers of one value a line call themselves.
pub(super) const KIND: &str = "application/x-ndjson";
const KINDS: [&str; 4] = [KIND, "application/ndjson", "application/jsonl", "application/x-jsonlines"];
/// Longest silence of the sender.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a line waits for others to share its commit.
const LINGER: Duration = Duration::from_millis(20);

/// A line, by its place in the body, counted from 0 and with empty lines counted.
#[derive(Debug)]
pub(super) struct Line {
    /// Its place.
    pub(super) index: u64,
    /// What it says, or why it was not read.
    pub(super) text: Result<Bytes, Problem>,
}

impl Line {
    fn of((index, cut): (u64, Cut)) -> Self {
        let text = match cut {
            Cut::Text(text) => Ok(text),
            Cut::TooLong => {
                let why = format!("the line has more than {LINE_BYTES} bytes; send it in a call of its own");
                Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "line_too_long", why))
            }
        };
        Self { index, text }
    }
}

/// The lines of a body.
pub(super) struct Lines {
    body: BodyDataStream,
    split: Split,
    is_over: bool,
}

impl Lines {
    /// The lines of a body, where its headers say that it has lines.
    pub(super) fn of(headers: &HeaderMap, body: axum::body::Body) -> Answer<Self> {
        let text = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?").trim());
        let refused =
            |why: &str| Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", why);
        let encoding = text(header::CONTENT_ENCODING);
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            return Err(refused("send the body without Content-Encoding"));
        }
        let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim();
        if !KINDS.into_iter().any(|known| kind.eq_ignore_ascii_case(known)) {
            return Err(refused(
                "send one JSON object a line, with the header `Content-Type: application/x-ndjson`",
            ));
        }
        Ok(Self { body: body.into_data_stream(), split: Split::new(LINE_BYTES), is_over: false })
    }

    /// The next lines, at most so many, without waiting for more than the first of them; none at the end. A body that
    /// breaks off or falls silent ends with a line that says so.
    pub(super) async fn next(&mut self, most: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        loop {
            while lines.len() < most
                && let Some(cut) = self.split.next()
            {
                lines.push(Line::of(cut));
            }
            if lines.len() == most || self.is_over {
                return lines;
            }
            let wait = if lines.is_empty() { SILENCE } else { LINGER };
            match tokio::time::timeout(wait, self.body.next()).await {
                Ok(Some(Ok(chunk))) => self.split.push(&chunk),
                Err(_) if !lines.is_empty() => return lines,
                end => {
                    self.is_over = true;
                    let broken = match end {
                        Ok(None) => None,
                        Ok(_) => {
                            Some(Problem::bad_request("malformed_body", "the body ended before it was whole"))
                        }
                        Err(_) => {
                            let why = "nothing arrived for 30 seconds; send the rest again";
                            Some(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", why))
                        }
                    };
                    lines.extend(match broken {
                        Some(problem) => Some(Line { index: self.split.index, text: Err(problem) }),
                        None => self.split.rest().map(Line::of),
                    });
                }
            }
        }
    }
}

/// A line as it was cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Without its end.
    Text(Bytes),
    /// It is too long, and passed over.
    TooLong,
}

/// Cuts what arrives at line breaks. Never holds more than a line and a piece of the body.
#[derive(Debug)]
pub(super) struct Split {
    most_line: usize,
    buffer: BytesMut,
    /// So far there is no line break in it.
    searched: usize,
    index: u64,
    /// The line at hand is too long, and passed over.
    skips: bool,
}

impl Split {
    /// Lines of at most so many bytes.
    pub(super) fn new(most_line: usize) -> Self {
        Self { most_line, buffer: BytesMut::new(), searched: 0, index: 0, skips: false }
    }

    /// More of the body.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line that is not empty, with its place.
    pub(super) fn next(&mut self) -> Option<(u64, Cut)> {
        loop {
            let ahead = self.buffer.get(self.searched..).unwrap_or_default();
            let found = ahead.iter().position(|byte| *byte == b'\n');
            let Some(end) = found.map(|at| self.searched + at) else {
                if self.buffer.len() > self.most_line {
                    self.buffer.clear();
                    self.skips = true;
                }
                self.searched = self.buffer.len();
                return None;
            };
            self.searched = 0;
            let mut line = self.buffer.split_to(end + 1);
            line.truncate(end);
            if let Some(line) = self.line(&line.freeze()) {
                return Some(line);
            }
        }
    }

    /// What is left at the end: a last line without its break.
    pub(super) fn rest(&mut self) -> Option<(u64, Cut)> {
        self.searched = 0;
        let rest = self.buffer.split().freeze();
        self.line(&rest)
    }

    /// Nothing more comes of the line at hand: what there is of it is none.
    pub(super) fn forget(&mut self) {
        self.searched = 0;
        self.buffer.clear();
    }

    fn line(&mut self, line: &Bytes) -> Option<(u64, Cut)> {
        let index = self.index;
        self.index += 1;
        if std::mem::take(&mut self.skips) || line.len() > self.most_line {
            return Some((index, Cut::TooLong));
        }
        let line = line.strip_suffix(b"\r").map_or_else(|| line.clone(), |text| line.slice_ref(text));
        let is_empty = line.iter().all(u8::is_ascii_whitespace);
        (!is_empty).then_some((index, Cut::Text(line)))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    fn lines(pieces: Vec<Vec<u8>>) -> Lines {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/x-ndjson".parse().unwrap())]);
        let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
        Lines::of(&headers, Body::from_stream(stream::iter(pieces))).unwrap()
    }

    async fn told(mut lines: Lines, most: usize) -> Vec<(u64, String)> {
        let mut all = Vec::new();
        loop {
            let some = lines.next(most).await;
            assert!(some.len() <= most);
            if some.is_empty() {
                return all;
            }
            all.extend(some.into_iter().map(|line| match line.text {
                Ok(text) => (line.index, String::from_utf8_lossy(&text).trim().to_owned()),
                Err(problem) => (line.index, problem.code.to_owned()),
            }));
        }
    }

    #[tokio::test]
    async fn lines_are_the_same_however_the_body_is_cut() {
        let long = "x".repeat(LINE_BYTES);
        let body = format!("{{\"a\":1}}\r\n\n  \n[2]\n{long}\n{long}y\n{long}{long}{long}\nlast");
        let expected = [
            (0, "{\"a\":1}"),
            (3, "[2]"),
            (4, long.as_str()),
            (5, "line_too_long"),
            (6, "line_too_long"),
            (7, "last"),
        ];
        for size in [1, 7, 1000, 65_536, 1_000_000] {
            let pieces = body.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let found = told(lines(pieces), 3).await;
            assert_eq!(
                found.iter().map(|(i, t)| (*i, t.as_str())).collect::<Vec<_>>(),
                expected,
                "by {size}"
            );
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_says_so_and_its_half_line_is_not_taken() {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/jsonl".parse().unwrap())]);
        let pieces = [Ok("{}\n{\"half".to_owned()), Err(std::io::Error::other("cut"))];
        let lines = Lines::of(&headers, Body::from_stream(stream::iter(pieces))).unwrap();
        assert_eq!(told(lines, 10).await, [(0, "{}".to_owned()), (1, "malformed_body".to_owned())]);
    }

    #[test]
    fn only_lines_are_taken_as_lines() {
        for kind in ["application/json", "text/plain", ""] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            let refused = Lines::of(&headers, Body::empty()).err().unwrap();
            assert_eq!(refused.code, "unsupported_media_type");
        }
    }
}
