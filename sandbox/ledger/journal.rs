//! The ledger on file: one text file per provider, one line per request, about 80 bytes each.
//!
//! `send accepted <fingerprint of provider, token, message> <fingerprint of message>`: enough for all counts, and
//! no token or message id in clear. Each line is one `write` to the page cache, so a killed sandbox loses nothing that
//! it answered; only a machine that loses power does.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What of a request is counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) provider: &'a str,
    pub(super) operation: &'a str,
    pub(super) verdict: &'a str,
    /// Of provider, token and message.
    pub(super) pair: u128,
    /// Of the message; 0 where it has no id.
    pub(super) message: u128,
}

/// The open files.
pub(super) struct Journal {
    dir: PathBuf,
    files: HashMap<String, File>,
}

impl Journal {
    /// Opens all files in `dir` and hands every whole line of them to `each`.
    pub(super) fn open(dir: PathBuf, mut each: impl FnMut(Line<'_>)) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let mut files = HashMap::new();
        for found in std::fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            let path = found.with_context(|| format!("listing {}", dir.display()))?.path();
            let Some(provider) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")) else {
                continue;
            };
            let file =
                read(&path, provider, &mut each).with_context(|| format!("reading {}", path.display()))?;
            files.insert(provider.to_owned(), file);
        }
        Ok(Self { dir, files })
    }

    /// Appends a line.
    pub(super) fn append(&mut self, line: &Line<'_>) -> anyhow::Result<()> {
        let text = format!("{} {} {:032x} {:032x}\n", line.operation, line.verdict, line.pair, line.message);
        if !self.files.contains_key(line.provider) {
            let path = self.dir.join(format!("{}.log", line.provider));
            let file = open(&path).with_context(|| format!("opening {}", path.display()))?;
            self.files.insert(line.provider.to_owned(), file);
        }
        let file = self.files.get_mut(line.provider).expect("it was just opened");
        file.write_all(text.as_bytes()).context("appending to the ledger")
    }

    /// Empties all files.
    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        for file in self.files.values_mut() {
            file.set_len(0).and_then(|()| file.rewind()).context("emptying the ledger")?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).read(true).write(true).truncate(false).open(path)
}

/// Reads a file and leaves it at the end of its last whole line.
fn read(path: &Path, provider: &str, each: &mut impl FnMut(Line<'_>)) -> anyhow::Result<File> {
    let mut reader = BufReader::with_capacity(1 << 20, open(path)?);
    let mut text = String::new();
    let mut whole = 0;
    loop {
        text.clear();
        let bytes = reader.read_line(&mut text)?;
        // A kill can leave half a line; it was never answered, so it is cut off.
        if bytes == 0 || !text.ends_with('\n') {
            break;
        }
        whole += bytes as u64;
        if let Some(line) = parse(text.trim_end(), provider) {
            each(line);
        }
    }
    let mut file = reader.into_inner();
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(whole))?;
    Ok(file)
}

fn parse<'a>(text: &'a str, provider: &'a str) -> Option<Line<'a>> {
    let mut words = text.split(' ');
    let (operation, verdict) = (words.next()?, words.next()?);
    let pair = u128::from_str_radix(words.next()?, 16).ok()?;
    let message = u128::from_str_radix(words.next()?, 16).ok()?;
    Some(Line { provider, operation, verdict, pair, message })
}
