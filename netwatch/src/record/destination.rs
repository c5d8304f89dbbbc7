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
    /// The file or the folder.
    pub place: RecordingPlace,
    /// The user who owns the file, and with whose rights it is accessed.
    pub user: Identity,
    /// Maximum size of the recording, bytes.
    pub limit_bytes: u64,
}

/// The file or the folder of a recording.
#[derive(Debug, Clone)]
pub enum RecordingPlace {
    /// In this file. The claim is the run's after [`Destination::check`].
    File(PathBuf, Option<Arc<Claim>>),
    /// In the folder of runs, with the number of runs to keep.
    Store(Store, Keep),
}

impl Destination {
    /// Fails if the file cannot be recorded to. The folder of runs is only accessed by
    /// [`Destination::open`], on the thread of the recording, so that no run waits for it.
    pub fn check(mut self) -> Result<Self> {
        if let RecordingPlace::File(path, claim) = &mut self.place {
            *claim = Some(rights::as_user((self.user.uid, self.user.gid), || create::prepare(path))?.into());
        }
        Ok(self)
    }

    /// Removes the file if it was created for this run.
    pub fn abandon(&self) {
        if let RecordingPlace::File(path, Some(claim)) = &self.place
            && claim.made
        {
            // If that fails, an empty file stays.
            let _ = rights::as_user((self.user.uid, self.user.gid), || std::fs::remove_file(path));
        }
    }
}

/// A file that is claimed for a run. With the folder of runs and its limits if it is in there.
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
