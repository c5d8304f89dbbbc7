//! Errors of recordings, in netwatch's terms.

use std::io;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, ffi};

use super::cell::Wrong;
use crate::error::Error;

/// The operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordingOperation {
    Read,
    Write,
}

impl RecordingOperation {
    fn operation(self) -> &'static str {
        match self {
            Self::Read => "read recording",
            Self::Write => "record to",
        }
    }
}

/// An error of a system call.
pub(super) fn os(doing: RecordingOperation, path: &Path, error: impl Into<io::Error>) -> Error {
    Error::os(doing.operation(), path.display().to_string(), error)
}

/// An error without an errno.
pub(super) fn other(doing: RecordingOperation, path: &Path, cause: impl Into<String>) -> Error {
    Error::other(doing.operation(), path.display().to_string(), cause)
}

/// An error of SQLite, with the errno of its system call if there is one. `db` is the connection,
/// if it was opened.
pub(super) fn sqlite(
    doing: RecordingOperation,
    path: &Path,
    error: &rusqlite::Error,
    db: Option<&Connection>,
) -> Error {
    let Some(code) = error.sqlite_error() else {
        return match doing {
            // rusqlite refused a value that SQLite returned.
            RecordingOperation::Read => {
                damaged(doing, path, &format!("its tables are not those of a recording: {error}"))
            }
            RecordingOperation::Write => other(doing, path, error.to_string()),
        };
    };
    match code.code {
        ErrorCode::DiskFull if has_room(path) => other(doing, path, "it reached its size limit")
            .hint("raise the limit with --record-size; the recording is incomplete"),
        ErrorCode::DiskFull => os(doing, path, io::Error::from_raw_os_error(libc::ENOSPC)),
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => damaged(doing, path, "it is truncated or corrupt"),
        ErrorCode::OperationInterrupted => damaged(doing, path, "reading takes more work than its size allows"),
        // A table or column is missing, or is a view.
        _ if doing == RecordingOperation::Read && code.extended_code == ffi::SQLITE_ERROR => {
            damaged(doing, path, &format!("its tables are not those of a recording: {error}"))
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => busy(doing, path),
        _ if code.extended_code == ffi::SQLITE_CANTOPEN_SYMLINK => {
            os(doing, path, io::Error::from_raw_os_error(libc::ELOOP))
        }
        _ => match db.and_then(errno) {
            Some(errno) => os(doing, path, io::Error::from_raw_os_error(errno)),
            None => other(doing, path, error.to_string()),
        },
    }
}

/// A value that netwatch never writes, or an error of SQLite.
pub(super) fn wrong(path: &Path, wrong: &Wrong, db: Option<&Connection>) -> Error {
    match wrong {
        Wrong::Sqlite(error) => sqlite(RecordingOperation::Read, path, error, db),
        Wrong::Value(what) => damaged(RecordingOperation::Read, path, what),
    }
}

/// A running session writes the recording.
pub(super) fn busy(doing: RecordingOperation, path: &Path) -> Error {
    let error = other(doing, path, "a run that has not ended writes it");
    match doing {
        RecordingOperation::Read => {
            error.hint("wait until it ends, or use `netwatch report RUN-ID` as root; `netwatch list` lists the ids")
        }
        RecordingOperation::Write => error.hint("choose another file"),
    }
}

fn damaged(doing: RecordingOperation, path: &Path, what: &str) -> Error {
    other(doing, path, format!("the file is damaged: {what}"))
}

/// SQLite's error is the same for a full disk and for the size limit of a recording.
fn has_room(path: &Path) -> bool {
    const MUCH: u64 = 1 << 20;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    nix::sys::statvfs::statvfs(folder).is_ok_and(|data| data.blocks_available() * data.fragment_size() >= MUCH)
}

/// The errno of SQLite's last failed system call.
fn errno(db: &Connection) -> Option<i32> {
    // SAFETY: the handle is valid as long as the connection.
    let errno = unsafe { ffi::sqlite3_system_errno(db.handle()) };
    (errno != 0).then_some(errno)
}
