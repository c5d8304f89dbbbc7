//! The journal: one line of JSON for each change of the host, on disk before the change is made.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::record::Undo;
use super::{RunDir, RunId};
use crate::error::{Error, Result};

/// Appends records. `/run` is memory, so what matters is that the write happened before the change, not that it reached a disk.
#[derive(Debug)]
pub struct Journal {
    run: RunId,
    file: File,
    path: String,
}

impl Journal {
    /// Opens the journal of this run.
    pub fn open(run: &RunDir) -> Result<Self> {
        let path = run.path().join("journal");
        let shown = path.display().to_string();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::os("open", shown.clone(), error))?;
        Ok(Self { run: run.id().clone(), file, path: shown })
    }

    /// Whose it is.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Records a change that is about to be made.
    pub fn record(&self, undo: &Undo) -> Result<()> {
        let mut line = serde_json::to_vec(undo).expect("an undo record is plain data");
        line.push(b'\n');
        (&self.file).write_all(&line).map_err(|error| Error::os("write", self.path.clone(), error))
    }

    /// Everything recorded in this run directory, in order. A last line cut short was never acted upon and is left out.
    pub fn read(dir: &Path) -> Result<Vec<Undo>> {
        let path = dir.join("journal");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::os("read", path.display().to_string(), error)),
        };
        Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}
