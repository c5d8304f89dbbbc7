//! The folder of stored runs: one file for each run, newest first.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::create::{self, Claim};
use super::fault::{self, RecordingOperation};
use super::regular;
use crate::error::{Error, Result};
use crate::rights::file_lock;
use crate::target::user::Identity;

/// Suffix of recordings: `20260101T120000.000Z-3f2a91bc.netwatch`, with the start of the run.
pub(super) const SUFFIX: &str = ".netwatch";

/// In the name of the recording of a benchmark's run, before its id.
const BENCHMARK_MARK: &str = "-bench";

/// The folder of stored runs.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    kind: RunKind,
}

/// What a run was recorded for. The limits of the store apply to the runs of each kind on their
/// own, so that a benchmark takes the place of earlier benchmarks only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunKind {
    /// A single run.
    #[default]
    Single,
    /// A run of a benchmark.
    Benchmark,
}

/// A run in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// 1 is the newest.
    pub number: usize,
    /// The run's id.
    pub id: String,
    /// What it was recorded for.
    pub kind: RunKind,
    /// Its file.
    pub path: PathBuf,
}

/// How many runs of a kind to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Maximum number of runs.
    pub runs: usize,
    /// Maximum total size in bytes. The newest run is always kept.
    pub bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Self { runs: 50, bytes: 1 << 30 }
    }
}

impl Store {
    /// The folder of a user: `$XDG_STATE_HOME/netwatch/runs`, otherwise
    /// `~/.local/state/netwatch/runs`. Under sudo the environment belongs to root, so that the home
    /// directory of the calling user is looked up.
    pub fn of(user: &Identity) -> Result<Self> {
        let is_ours = user.uid == nix::unistd::Uid::effective();
        let variable =
            |name: &str| env::var_os(name).filter(|_| is_ours).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = variable("HOME").unwrap_or_else(|| user.home.clone());
        let state = variable("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state"));
        Ok(Self { folder: state.join("netwatch/runs"), kind: RunKind::default() })
    }

    /// The same folder, for new runs of this kind.
    pub fn of_kind(self, kind: RunKind) -> Self {
        Self { kind, ..self }
    }

    /// The path of the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All runs, newest first: those in progress, then by their end. None if the folder does not
    /// exist. Ignores other files and anything that is not a regular file.
    pub fn list(&self) -> Result<Vec<Stored>> {
        self.list_by(is_live)
    }

    /// [`Self::list`] with another answer to the question which runs are in progress.
    fn list_by(&self, is_live: impl Fn(&Path) -> bool) -> Result<Vec<Stored>> {
        let failed = |error| Error::os("list recordings in", self.folder.display().to_string(), error);
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let mut found: Vec<_> = entries
            .into_iter()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let (kind, id) = parse_name(&name).map(|(kind, id)| (kind, id.to_owned()))?;
                // A recording is written for the last time when its run ends.
                let ended: Option<SystemTime> = entry.metadata().and_then(|data| data.modified()).ok();
                Some(((is_live(&entry.path()), ended, name), (kind, id)))
            })
            .collect();
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        let mut runs = Vec::with_capacity(found.len());
        for ((_, _, name), (kind, id)) in found {
            runs.push(Stored { number: runs.len() + 1, id, kind, path: self.folder.join(name) });
        }
        Ok(runs)
    }

    /// Creates the file of a new run, and the folder if it does not exist.
    pub(super) fn create(&self, started_ns: u64, id: &str) -> Result<(PathBuf, Claim)> {
        let failed = |object: &Path, error| {
            fault::os(RecordingOperation::Write, object, error)
                .hint("choose another file with --record FILE, or disable recording with --no-record")
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| failed(&self.folder, error))?;
        let time = crate::format::rfc3339(started_ns);
        let time: String = time.chars().take(TIME_CHARACTERS).filter(|c| !"-:".contains(*c)).collect();
        let mark = match self.kind {
            RunKind::Single => "",
            RunKind::Benchmark => BENCHMARK_MARK,
        };
        let path = self.folder.join(format!("{time}Z{mark}-{id}{SUFFIX}"));
        let claim = create::prepare(&path)?;
        Ok((path, claim))
    }

    /// Removes the oldest runs of its kind beyond the limits, but not this run, and no run that has
    /// not ended.
    /// A failure to remove one is ignored until the next time, because it must not fail the run.
    pub(super) fn prune(&self, keep: &Keep, own: &Path) {
        // The own file is not opened here: closing it would release SQLite's lock (fcntl(2)).
        let is_live = |path: &Path| path == own || is_live(path);
        let (Ok(runs), Ok(sizes)) = (self.list_by(is_live), self.sizes()) else { return };
        let mut bytes: u64 = 0;
        for (at, run) in runs.iter().filter(|run| run.kind == self.kind).enumerate() {
            let size = sizes.get(&run.path).copied().unwrap_or_default();
            bytes = bytes.saturating_add(size);
            let is_kept = at == 0 || (at < keep.runs && bytes <= keep.bytes);
            if !is_kept && !is_live(&run.path) {
                let _ = remove(&run.path);
            }
        }
    }

    /// Size of each recording in bytes, with the files that SQLite left beside it.
    fn sizes(&self) -> std::io::Result<HashMap<PathBuf, u64>> {
        let mut sizes = HashMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(end) = name.find(SUFFIX).map(|at| at + SUFFIX.len()) else { continue };
            // A file that was removed in the meantime counts as empty.
            let bytes = entry.metadata().map_or(0, |data| data.len());
            *sizes.entry(self.folder.join(&name[..end])).or_default() += bytes;
        }
        Ok(sizes)
    }

    /// The file of a run, by number (1 is the newest), id, the first characters of an id, or path;
    /// `None` is the newest.
    pub fn find(&self, selector: Option<&str>) -> Result<PathBuf> {
        let Some(selector) = selector else { return self.numbered("1") };
        if selector.is_empty() {
            return Err(Error::other("find", "run", "no number, id or file was given"));
        }
        if selector.contains('/') {
            return Ok(selector.into());
        }
        let runs = self.list()?;
        let is_number = selector.bytes().all(|byte| byte.is_ascii_digit());
        // The first characters of an id may be digits only: a few digits are always a number, more
        // only if a run has that number.
        let is_place = selector.parse::<usize>().is_ok_and(|number| (1..=runs.len()).contains(&number));
        let is_short = selector.len() < MIN_ID_DIGITS;
        if is_place || (is_number && (is_short || !runs.iter().any(|run| run.id.starts_with(selector)))) {
            return self.numbered(selector);
        }
        if Path::new(selector).exists() { Ok(selector.into()) } else { self.by_id(selector) }
    }

    fn numbered(&self, text: &str) -> Result<PathBuf> {
        let runs = self.list()?;
        let number: usize = text.parse().unwrap_or_default();
        let found = number.checked_sub(1).and_then(|at| runs.get(at));
        if runs.is_empty() {
            let cause = format!("no run is stored in {}", self.folder.display());
            return Err(Error::other("find run", text, cause)
                .hint("record one with `sudo netwatch run -- COMMAND`; a file is named with its path: ./FILE"));
        }
        found.map(|run| run.path.clone()).ok_or_else(|| {
            let kept = match runs.len() {
                1 => "1 run is stored".to_owned(),
                count => format!("{count} runs are stored"),
            };
            Error::other("find run", text, kept)
                .hint("`netwatch history` lists the runs; for a file of this name use ./FILE")
        })
    }

    fn by_id(&self, id: &str) -> Result<PathBuf> {
        let runs = self.list()?;
        let found: Vec<&Stored> = runs.iter().filter(|run| run.id.starts_with(id)).collect();
        match found.as_slice() {
            [one] => Ok(one.path.clone()),
            [] => Err(Error::other("find run", id, "no run has this id, and no such file exists")
                .hint("`netwatch history` lists the stored runs, and `sudo netwatch list` the runs in progress")),
            many => Err(Error::other("find run", id, format!("{} runs have an id that begins like this", many.len()))
                .hint("give more characters")),
        }
    }
}

/// The kind and the id in the name of a recording; `None` for other names.
fn parse_name(name: &str) -> Option<(RunKind, &str)> {
    let (before, id) = name.strip_suffix(SUFFIX)?.rsplit_once('-')?;
    let (kind, time) = match before.strip_suffix(BENCHMARK_MARK) {
        Some(time) => (RunKind::Benchmark, time),
        None => (RunKind::Single, before),
    };
    let is_id = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && time.len() == 20 && time.ends_with('Z')).then_some((kind, id))
}

/// Minimum digits of the beginning of an id; fewer are a number.
pub const MIN_ID_DIGITS: usize = 4;

/// Characters of a time with milliseconds: `2026-01-01T12:00:00.000`.
const TIME_CHARACTERS: usize = 23;

/// Whether the run has not ended.
pub(super) fn is_live(path: &Path) -> bool {
    regular::read(path).is_ok_and(|file| file_lock::is_locked(&file).unwrap_or(false))
}

/// Removes a recording and the files that SQLite left beside it.
pub fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|error| Error::os("remove", path.display().to_string(), error))?;
    for beside in super::file::beside(path) {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(fault::os(RecordingOperation::Write, &beside, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The id of the run that a file in a folder of runs belongs to.
pub(super) fn run_id(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    name.rsplit_once('-').map(|(_, id)| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_a_number_or_the_beginning_of_an_id() {
        let folder = tempfile::tempdir().expect("a directory");
        let names = ["20260101T120000.000Z-90814abc", "20260101T120001.000Z-1234abcd"];
        let path = |at: usize| folder.path().join(format!("{}{SUFFIX}", names[at]));
        (0..2).for_each(|at| fs::write(path(at), "").expect("written"));
        let store = Store { folder: folder.path().to_owned(), kind: RunKind::Single };
        for (selector, at) in [("1", 1), ("2", 0), ("90814", 0), ("9081", 0), ("1234abcd", 1), ("1234", 1)] {
            assert_eq!(store.find(Some(selector)).expect(selector), path(at), "{selector}");
        }
        for wrong in ["3", "0", "9", "12", "77", "abc"] {
            assert!(store.find(Some(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(store.find(Some("./1")).expect("a file"), Path::new("./1"));
    }

    #[test]
    fn the_runs_of_benchmarks_have_limits_of_their_own() {
        let folder = tempfile::tempdir().expect("a directory");
        let single = Store { folder: folder.path().to_owned(), kind: RunKind::Single };
        let benchmark = single.clone().of_kind(RunKind::Benchmark);
        let keep = Keep { runs: 2, bytes: u64::MAX };
        let mut made = Vec::new();
        for (second, store) in [&single, &benchmark, &benchmark, &single, &benchmark, &benchmark].iter().enumerate() {
            let (path, claim) =
                store.create(second as u64 * 1_000_000_000, &format!("a000000{second}")).expect("created");
            drop(claim);
            store.prune(&keep, &path);
            made.push(path);
        }
        let listed = single.list().expect("a list");
        let ids: Vec<_> = listed.iter().map(|run| (run.number, run.id.as_str(), run.kind)).collect();
        let (one, many) = (RunKind::Single, RunKind::Benchmark);
        assert_eq!(ids, [(1, "a0000005", many), (2, "a0000004", many), (3, "a0000003", one), (4, "a0000000", one)]);
        assert_eq!(single.find(Some("a0000004")).expect("found"), made[4]);
        assert_eq!(run_id(&made[4]).as_deref(), Some("a0000004"));
    }

    /// Closing any descriptor of a file releases the locks that the process has on it.
    #[test]
    fn a_run_that_removes_older_ones_stays_in_progress_for_others() {
        let folder = tempfile::tempdir().expect("a directory");
        let store = Store { folder: folder.path().to_owned(), kind: RunKind::Single };
        let (path, claim) = store.create(1_000_000_000, "a0000001").expect("created");
        let _db = create::begin(&path, &claim, 1 << 20).expect("begun");
        store.prune(&Keep { runs: 1, bytes: u64::MAX }, &path);
        assert!(is_live(&path));
    }

    #[test]
    fn only_regular_files_are_runs() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = |id: &str| folder.path().join(format!("20260101T120000.000Z-{id}{SUFFIX}"));
        fs::create_dir(path("00000001")).expect("a directory");
        nix::unistd::mkfifo(&path("00000002"), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        fs::write(path("00000003"), "").expect("written");
        let runs = Store { folder: folder.path().to_owned(), kind: RunKind::Single }.list().expect("a list");
        assert_eq!(runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["00000003"]);
    }

    /// A run of hours is the newest when it has ended, whatever has started meanwhile.
    #[test]
    fn the_run_that_ended_last_is_the_first() {
        let folder = tempfile::tempdir().expect("a directory");
        let ended = |start: &str, id: &str, seconds: u64| {
            let path = folder.path().join(format!("20260101T{start}.000Z-{id}{SUFFIX}"));
            let file = fs::File::create(path).expect("created");
            file.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).expect("modified");
            file
        };
        let long = ended("120000", "00000001", 3000);
        ended("130000", "00000002", 1000);
        ended("140000", "00000003", 2000);
        let store = Store { folder: folder.path().to_owned(), kind: RunKind::Single };
        let ids = || store.list().expect("a list").into_iter().map(|run| run.id).collect::<Vec<_>>();
        assert_eq!(ids(), ["00000001", "00000003", "00000002"]);
        drop(long);
        let keep = Keep { runs: 2, bytes: u64::MAX };
        store.prune(&keep, Path::new("/none"));
        assert_eq!(ids(), ["00000001", "00000003"]);
    }
}
