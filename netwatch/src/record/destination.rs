//! Where a run is recorded, and how much of it.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;

use super::create::{self, Claim};
use super::store::{Keep, Store};
use crate::error::Result;
use crate::rights;
use crate::target::user::Identity;

/// Where a run is recorded, and how much of it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Where.
    pub place: RecordingPlace,
    /// Whose rights decide, and who owns the file.
    pub user: Identity,
    /// Bytes that the recording may have.
    pub limit_bytes: u64,
}

/// The file or the folder of a recording.
#[derive(Debug, Clone)]
pub enum RecordingPlace {
    /// In this file, which is the run's own once it was found good.
    File(PathBuf, Option<Arc<Claim>>),
    /// Where runs are kept, and how many of them.
    Store(Store, Keep),
}

impl Destination {
    /// Finds out now whether the file can be recorded to. The folder for runs is left for when it
    /// is needed: no run waits for it.
    pub fn check(mut self) -> Result<Self> {
        if let RecordingPlace::File(path, claim) = &mut self.place {
            *claim = Some(rights::as_user((self.user.uid, self.user.gid), || create::prepare(path))?.into());
        }
        Ok(self)
    }

    /// Nothing will come: a file that was made for it goes again.
    pub fn abandon(&self) {
        if let RecordingPlace::File(path, Some(claim)) = &self.place
            && claim.made
        {
            // What cannot be removed now is an empty file.
            let _ = rights::as_user((self.user.uid, self.user.gid), || std::fs::remove_file(path));
        }
    }
}

/// A file that is claimed for a run, and the folder that it is kept in, if it is one.
type ClaimedFile<'a> = (PathBuf, Arc<Claim>, Option<(&'a Store, &'a Keep)>);

/// A recording that is being written.
#[derive(Debug)]
pub struct OpenRecording {
    /// The database.
    pub db: Connection,
    /// Its file.
    pub path: PathBuf,
    /// Outlives the connection.
    _claim: Arc<Claim>,
}

impl Destination {
    /// Creates the recording of a run. The calling thread gets the rights of the user and keeps
    /// them: SQLite opens files of its own.
    pub fn open(&self, run_id: &str, started_ns: u64) -> Result<OpenRecording> {
        rights::become_on_this_thread(&self.user)?;
        let (path, claim, kept) = self.claim(run_id, started_ns)?;
        let db = create::begin(&path, &claim, self.limit_bytes)?;
        if let Some((store, keep)) = kept {
            store.prune(keep, &path);
        }
        Ok(OpenRecording { db, path, _claim: claim })
    }

    fn claim(&self, run_id: &str, started_ns: u64) -> Result<ClaimedFile<'_>> {
        match &self.place {
            RecordingPlace::File(path, Some(claim)) => Ok((path.clone(), claim.clone(), None)),
            RecordingPlace::File(path, None) => Ok((path.clone(), create::prepare(path)?.into(), None)),
            RecordingPlace::Store(store, keep) => {
                let (path, claim) = store.create(started_ns, run_id)?;
                Ok((path, claim.into(), Some((store, keep))))
            }
        }
    }
}
