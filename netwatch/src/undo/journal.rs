//! The journal of a run: one line of JSON for each change of the host that the kernel cannot undo
//! by itself. A line is written before its change is made.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{RunDir, RunId};
use crate::error::{Error, Result};

/// A change to be undone, defined by the module that makes it. Undoing is idempotent: the change
/// may never have happened, or be undone already.
pub trait UndoRecord: Serialize + DeserializeOwned + 'static {
    /// Identifies the kind of record in the journal. It must not change, because a newer netwatch
    /// undoes the runs of an older one.
    const KIND: &'static str;
}

/// One line of a journal: the kind of a record and its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalLine {
    kind: String,
    #[serde(flatten)]
    fields: serde_json::Map<String, serde_json::Value>,
}

impl JournalLine {
    fn new<R: UndoRecord>(record: &R) -> Self {
        match serde_json::to_value(record) {
            Ok(serde_json::Value::Object(fields)) => Self { kind: R::KIND.into(), fields },
            other => unreachable!("an undo record is a struct of plain data: {other:?}"),
        }
    }

    /// The kind of the record.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether it holds a record of this type.
    pub fn is<R: UndoRecord>(&self) -> bool {
        self.kind == R::KIND
    }

    /// The record, if it is of this type. Fails when its fields are not those of the type.
    pub fn read<R: UndoRecord>(&self) -> Result<Option<R>> {
        if !self.is::<R>() {
            return Ok(None);
        }
        let fields = serde_json::Value::Object(self.fields.clone());
        serde_json::from_value(fields).map(Some).map_err(|error| Error::other("read", self.shown(), error.to_string()))
    }

    /// For error messages.
    pub(super) fn shown(&self) -> String {
        format!("undo record of kind {}", self.kind)
    }
}

/// Appends records. `/run` is in memory, so it is enough that the write happens before the change;
/// nothing is synced to disk.
#[derive(Debug)]
pub struct Journal {
    run: RunId,
    file: File,
    path: String,
}

impl Journal {
    /// Opens the journal of this run.
    pub fn open(run: &RunDir) -> Result<Self> {
        Self::open_in(run.path(), run.id())
    }

    /// Opens the journal in this directory of a run, in another process of the run. The processes
    /// append whole lines.
    pub fn open_in(dir: &Path, run: &RunId) -> Result<Self> {
        let path = dir.join("journal");
        let shown = path.display().to_string();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| Error::os("open", shown.clone(), error))?;
        Ok(Self { run: run.clone(), file, path: shown })
    }

    /// The run that it belongs to.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Records a change that is about to be made.
    pub fn record<R: UndoRecord>(&self, record: &R) -> Result<()> {
        let mut line = serde_json::to_vec(&JournalLine::new(record)).expect("an undo record is plain data");
        line.push(b'\n');
        (&self.file).write_all(&line).map_err(|error| Error::os("write", self.path.clone(), error))
    }

    /// Everything recorded in this run directory, in order. A last line without its end is left
    /// out: the run was killed while it wrote the line, so the change was not made. Any other line
    /// that cannot be read is an error.
    pub fn read(dir: &Path) -> Result<Vec<JournalLine>> {
        let path = dir.join("journal");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::os("read", path.display().to_string(), error)),
        };
        let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |end| &text[..end]);
        let lines = complete.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(serde_json::from_slice)
            .collect::<Result<_, _>>()
            .map_err(|error| Error::other("read", path.display().to_string(), error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<JournalLine>> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal"), text).unwrap();
        Journal::read(dir.path())
    }

    #[test]
    fn ignores_an_incomplete_last_line_and_nothing_else() {
        let line = r#"{"kind":"cgroup","path":"/x"}"#;
        assert_eq!(read("").unwrap(), []);
        assert_eq!(read(&format!("{line}\n{{\"kind\":\"cgr")).unwrap().len(), 1);
        assert_eq!(read(&format!("{line}\n{line}\n")).unwrap().len(), 2);
        assert!(read(&format!("{{\"kind\":\"cgr\n{line}\n")).is_err());
    }
}
