//! The demo's directory: what a second start needs to know, and the file that says "ready".

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a second start needs to know. Keys and secrets are shown once by the API, so they are kept here.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    pub(super) admin_key: Option<String>,
    pub(super) api_key: Option<String>,
    pub(super) app_id: Option<String>,
    pub(super) sandbox_port: Option<u16>,
    /// By device: user name and secret.
    pub(super) secrets: BTreeMap<String, Login>,
}

/// How a device connects itself.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) secret: String,
}

/// The demo's directory.
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Makes it where it is not there, and takes back the word that it is ready.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("making {}; choose another with --data-dir", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn kept(&self) -> anyhow::Result<Kept> {
        let path = self.0.join("kept.json");
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged; delete the directory to begin anew", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    pub(super) fn keep(&self, kept: &Kept) -> anyhow::Result<()> {
        self.write("kept.json", &serde_json::to_value(kept)?)
    }

    /// Writes `demo.json`: whoever waits for it may begin.
    pub(super) fn ready(&self, content: &Value) -> anyhow::Result<()> {
        self.write("demo.json", content)
    }

    /// Takes `demo.json` away: nobody answers any more.
    pub(super) fn not_ready(&self) {
        let _ = std::fs::remove_file(self.0.join("demo.json"));
    }

    /// Whole or not at all, and for its owner's eyes only.
    fn write(&self, name: &str, content: &Value) -> anyhow::Result<()> {
        let (path, draft) = (self.0.join(name), self.0.join(format!("{name}.draft")));
        let write = || -> std::io::Result<()> {
            // A draft that a crash left might be readable by others: the mode counts only when a file is made.
            let _ = std::fs::remove_file(&draft);
            let mut file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            serde_json::to_writer_pretty(&mut file, content)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&draft, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(&folder.path().join("demo")).unwrap();
        assert!(directory.kept().unwrap().admin_key.is_none());
        directory.keep(&Kept { admin_key: Some("apk".into()), ..Kept::default() }).unwrap();
        assert_eq!(directory.kept().unwrap().admin_key.as_deref(), Some("apk"));
        let mode = std::fs::metadata(directory.path().join("kept.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn demo_json_is_there_only_while_somebody_answers() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        directory.ready(&serde_json::json!({})).unwrap();
        assert!(folder.path().join("demo.json").exists());
        directory.not_ready();
        assert!(!folder.path().join("demo.json").exists());
    }

    #[test]
    fn a_damaged_file_says_how_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kept.json"), "{").unwrap();
        let Err(error) = Directory::open(folder.path()).unwrap().kept() else { panic!("it was read") };
        assert!(error.to_string().contains("delete the directory"), "{error}");
    }
}
