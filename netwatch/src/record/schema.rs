//! The kind and version of a file, and upgrades of older versions.

use std::io::{self, Read};
use std::path::Path;

use rusqlite::Connection;

use super::fault::{self, RecordingOperation};
use super::regular;
use crate::error::Result;

/// Version of the schema, raised when tables change. Files of every version up to this one can be
/// read.
pub const VERSION: u32 = 7;

/// Upgrades a recording of version `n` to version `n + 1`, at index `n - 1`: SQL that runs on a
/// copy, because reading changes no file. The type requires one for each version but the newest.
/// `schema.sql` always holds the newest.
pub(super) const STEPS: [&str; VERSION as usize - 1] = [
    include_str!("upgrade_1_to_2.sql"),
    include_str!("upgrade_2_to_3.sql"),
    include_str!("upgrade_3_to_4.sql"),
    include_str!("upgrade_4_to_5.sql"),
    include_str!("upgrade_5_to_6.sql"),
    include_str!("upgrade_6_to_7.sql"),
];

/// `nwat`: SQLite stores it in the header, where file(1) and others recognize the format.
pub(super) const APPLICATION_ID: u32 = 0x6e77_6174;

const TABLES: &str = include_str!("schema.sql");

/// Creates the tables. The header is complete before anything is written to the write-ahead log, so
/// that the file of a killed run is recognized.
pub(super) fn create(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {TABLES} COMMIT;"
    ))
}

/// Number of columns of a table.
pub(super) fn columns(table: &str) -> usize {
    let begin = format!("CREATE TABLE {table} (");
    let rows = TABLES.lines().skip_while(|line| *line != begin).skip(1).take_while(|line| !line.starts_with(')'));
    rows.filter(|line| !line.trim_start().starts_with("PRIMARY KEY")).count()
}

/// The kind of a file, from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// An empty file.
    Empty,
    /// A recording of this version.
    Recording(u32),
    /// Another SQLite database.
    OtherDatabase,
    /// Any other file.
    Other,
}

impl FileKind {
    /// Determines the kind of a file.
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::read(&mut regular::read(path)?)
    }

    /// Reads the header (https://sqlite.org/fileformat.html#the_database_header).
    pub fn read(file: &mut impl Read) -> io::Result<Self> {
        const SIZE: usize = 100;
        const MAGIC: &[u8] = b"SQLite format 3\0";
        let mut header = Vec::with_capacity(SIZE);
        file.take(SIZE as u64).read_to_end(&mut header)?;
        let number = |at: usize| {
            header.get(at..at + 4).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        };
        Ok(match (header.len(), header.starts_with(MAGIC), number(68), number(60)) {
            (0, ..) => Self::Empty,
            (_, true, Some(APPLICATION_ID), Some(version)) => Self::Recording(version),
            (_, true, ..) => Self::OtherDatabase,
            _ => Self::Other,
        })
    }

    /// The upgrade steps that the file needs. Fails if it cannot be read.
    pub fn steps<'s>(self, path: &Path, all: &'s [&'s str]) -> Result<&'s [&'s str]> {
        let refuse = |cause: &str| Err(fault::other(RecordingOperation::Read, path, cause));
        match self {
            Self::Recording(0) => refuse("it is marked as a recording but has no version"),
            Self::Recording(version) => all.get(version as usize - 1..).ok_or_else(|| {
                let newest = all.len() + 1;
                let cause = format!("a newer netwatch wrote it (schema {version}, this one reads up to {newest})");
                fault::other(RecordingOperation::Read, path, cause).hint("use that netwatch")
            }),
            Self::Empty => refuse("the file is empty: its run had not begun"),
            Self::OtherDatabase => refuse("it is an SQLite database, but not a netwatch recording"),
            Self::Other => refuse("it is not a netwatch recording"),
        }
    }
}
