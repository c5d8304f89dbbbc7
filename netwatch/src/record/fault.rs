//! What went wrong with a recording, said in netwatch's words.

use std::io;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, ffi};

use super::cell::Wrong;
use crate::error::Error;

/// What was being done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Read,
    Write,
}

impl Doing {
    fn operation(self) -> &'static str {
        match self {
            Self::Read => "read recording",
            Self::Write => "record to",
        }
    }
}

/// An error of a system call.
pub(super) fn os(doing: Doing, path: &Path, error: impl Into<io::Error>) -> Error {
    Error::os(doing.operation(), path.display().to_string(), error)
}

/// Something is in the way that no system call says.
pub(super) fn said(doing: Doing, path: &Path, cause: impl Into<String>) -> Error {
    Error::other(doing.operation(), path.display().to_string(), cause)
}

/// SQLite's error; the system call's own where there was one. `db` is the connection, if it was opened.
pub(super) fn sqlite(doing: Doing, path: &Path, error: &rusqlite::Error, db: Option<&Connection>) -> Error {
    let Some(code) = error.sqlite_error() else {
        return match doing {
            // It is rusqlite that refuses what SQLite gave it.
            Doing::Read => damaged(doing, path, &format!("its tables are not a recording's: {error}")),
            Doing::Write => said(doing, path, error.to_string()),
        };
    };
    match code.code {
        ErrorCode::DiskFull if has_room(path) => said(doing, path, "it has as many bytes as it may have")
            .hint("allow it more with --record-size; it is incomplete, and says so"),
        ErrorCode::DiskFull => os(doing, path, io::Error::from_raw_os_error(libc::ENOSPC)),
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => damaged(doing, path, "it is not whole"),
        ErrorCode::OperationInterrupted => damaged(doing, path, "there is more to read than it has bytes"),
        // There is no such table or column, or it is a view.
        _ if doing == Doing::Read && code.extended_code == ffi::SQLITE_ERROR => {
            damaged(doing, path, &format!("its tables are not a recording's: {error}"))
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => busy(doing, path),
        _ if code.extended_code == ffi::SQLITE_CANTOPEN_SYMLINK => {
            os(doing, path, io::Error::from_raw_os_error(libc::ELOOP))
        }
        _ => match db.and_then(errno) {
            Some(errno) => os(doing, path, io::Error::from_raw_os_error(errno)),
            None => said(doing, path, error.to_string()),
        },
    }
}

/// A value that no netwatch wrote, or SQLite's error.
pub(super) fn wrong(path: &Path, wrong: &Wrong, db: Option<&Connection>) -> Error {
    match wrong {
        Wrong::Sqlite(error) => sqlite(Doing::Read, path, error, db),
        Wrong::Value(what) => damaged(Doing::Read, path, what),
    }
}

/// Another run writes it.
pub(super) fn busy(doing: Doing, path: &Path) -> Error {
    let error = said(doing, path, "a run that still goes on writes it");
    match doing {
        Doing::Read => error.hint("wait for its end; SIGUSR1 to netwatch shows interim figures"),
        Doing::Write => error.hint("choose another file"),
    }
}

fn damaged(doing: Doing, path: &Path, what: &str) -> Error {
    said(doing, path, format!("the file is damaged: {what}"))
}

/// SQLite's word is the same for a full disk and for the limit that a recording has.
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
