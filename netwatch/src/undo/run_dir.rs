//! `/run/netwatch/<id>`: the directory of a run, with a lock that is held while the run is alive.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The directory of all runs.
const ROOT: &str = "/run/netwatch";

/// Every user may list the runs, because `netwatch tail` looks here for the run to attach to.
const ROOT_MODE: u32 = 0o755;

/// Only root may list the directory of a run. Every user may look up paths in it, because the user
/// of the run connects to the socket for tails. Each file in it has its own mode.
const DIRECTORY_MODE: u32 = 0o711;

/// The directory of the directories of all runs, `/run/netwatch`. It is created on first use.
pub fn root() -> Result<PathBuf> {
    let path = PathBuf::from(ROOT);
    DirBuilder::new().recursive(true).mode(ROOT_MODE).create(&path).map_err(|error| {
        Error::os("create", path.display().to_string(), error).hint("needs root and a writable /run")
    })?;
    check_owner(&path)?;
    Ok(path)
}

/// A directory that others can write to is refused, because root executes what the journals in it
/// list.
fn check_owner(root: &Path) -> Result<()> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let shown = || root.display().to_string();
    let data = fs::symlink_metadata(root).map_err(|error| Error::os("read", shown(), error))?;
    if data.is_dir() && data.uid() == 0 && data.mode() & WRITABLE_BY_OTHERS == 0 {
        return Ok(());
    }
    Err(Error::other("trust", shown(), "it is not a directory that only root can write").hint("remove it"))
}

/// Eight hexadecimal digits that name a run, its interface (`nw<id>`) and its nftables table
/// (`netwatch-<id>`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunId(String);

impl RunId {
    /// A new id, from the kernel's random numbers.
    pub fn random() -> Result<Self> {
        let mut bytes = [0u8; 4];
        // SAFETY: the buffer is valid for its length.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if got != bytes.len() as isize {
            return Err(Error::os("get random bytes", "", io::Error::last_os_error()));
        }
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The id in this text, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
            .then(|| Self(text.to_owned()))
    }

    /// The eight digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an interface with this name belongs to a run.
    pub fn is_interface(name: &str) -> bool {
        name.strip_prefix("nw").is_some_and(|id| Self::parse(id).is_some())
    }

    /// Name of the host-side interface: `nw3f2a91bc`.
    pub fn interface(&self) -> String {
        format!("nw{}", self.0)
    }

    /// Name of the run's nftables table: `netwatch-3f2a91bc`.
    pub fn table(&self) -> String {
        format!("netwatch-{}", self.0)
    }

    /// The comment that marks this run's rules in chains of other programs.
    pub fn comment(&self) -> String {
        format!("netwatch:{}", self.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `netwatch list` shows about a live run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCard {
    /// The run.
    pub id: RunId,
    /// The netwatch process.
    pub pid: i32,
    /// Its guardian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardian: Option<i32>,
    /// The command line of the target.
    pub command: Vec<String>,
    /// The user that the target runs as.
    pub user: String,
    /// Start of the run, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// The interface at the host's end of the link.
    pub interface: String,
    /// Name of the network namespace, if it has one.
    pub netns: Option<String>,
}

/// The directory of a run. It exists exactly as long as there is something to undo. Its lock is
/// held while netwatch or its guardian is alive.
#[derive(Debug)]
pub struct RunDir {
    id: RunId,
    path: PathBuf,
    lock: Flock<File>,
}

impl RunDir {
    /// Creates the directory of a new run and takes its lock. The caller holds
    /// [`super::Exclusive`], so that no `clean` finds the directory unlocked.
    pub fn create(_held: &super::Exclusive) -> Result<Self> {
        let id = RunId::random()?;
        let root = root()?;
        let path = root.join(id.as_str());
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            // Independent of the umask, and of the mode that an older version gave the directory.
            .and_then(|()| {
                let modes = [(&root, ROOT_MODE), (&path, DIRECTORY_MODE)];
                modes.into_iter().try_for_each(|(path, mode)| set_mode(path, mode))
            })
            .map_err(|error| Error::os("create", path.display().to_string(), error))?;
        let lock = Self::lock_new(&path).inspect_err(|_| {
            // If this fails too, the next run removes the directory.
            let _ = fs::remove_dir_all(&path);
        })?;
        Ok(Self { id, path, lock })
    }

    fn lock_new(path: &Path) -> Result<Flock<File>> {
        let taken = || Error::other("lock", path.display().to_string(), "another run holds the lock");
        let lock = try_lock(path, true)?.ok_or_else(taken)?;
        write_netns(path)?;
        Ok(lock)
    }

    /// The inode of the network namespace that the run was started in; `None` if it died before it
    /// wrote that.
    pub fn netns_inode(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("netns")).ok()?.parse().ok()
    }

    /// Locks and returns the directories of runs that died without undoing everything. Live runs
    /// are skipped.
    pub fn dead(_held: &super::Exclusive) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for (id, path) in all()? {
            if let Some(lock) = try_lock(&path, true)? {
                found.push(Self { id, path, lock });
            }
        }
        Ok(found)
    }

    /// The cards of live runs.
    pub fn live() -> Result<Vec<RunCard>> {
        // Testing the lock of a run must not interfere with its creation or removal.
        let _held = super::Exclusive::take()?;
        let mut cards = Vec::new();
        for (_, path) in all()? {
            if try_lock(&path, false)?.is_none()
                && let Ok(text) = fs::read(path.join("card.json"))
                && let Ok(card) = serde_json::from_slice(&text)
            {
                cards.push(card);
            }
        }
        Ok(cards)
    }

    /// The directory of the run with this id, which may not exist.
    pub fn path_of(id: &RunId) -> PathBuf {
        Path::new(ROOT).join(id.as_str())
    }

    /// The card of a run, if it has one already and the caller may read it. The run may be dead.
    pub fn card_of(id: &RunId) -> Option<RunCard> {
        serde_json::from_slice(&fs::read(Self::path_of(id).join("card.json")).ok()?).ok()
    }

    /// The ids of the run directories whose id begins with this text.
    pub fn ids_beginning_with(prefix: &str) -> Vec<RunId> {
        let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| RunId::parse(entry.file_name().to_str()?));
        ids.filter(|id| id.as_str().starts_with(prefix)).collect()
    }

    /// The id of the run.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what `netwatch list` shows.
    pub fn write_card(&self, card: &RunCard) -> Result<()> {
        let path = self.path.join("card.json");
        let text = serde_json::to_vec(card).expect("a card is plain data");
        write_private(&path, &text)
    }

    /// Removes the directory, and with it the lock.
    pub fn remove(self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::os("remove", self.path.display().to_string(), error))
            }
            _ => {
                drop(self.lock);
                Ok(())
            }
        }
    }
}

/// Records the network namespace, because rules and switches can be undone only where they were
/// made.
fn write_netns(dir: &Path) -> Result<()> {
    let own = "/proc/thread-self/ns/net";
    let inode = fs::metadata(own).map_err(|error| Error::os("read", own, error))?.ino();
    let path = dir.join("netns");
    write_private(&path, inode.to_string().as_bytes())
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Writes a file that only root can read.
fn write_private(path: &Path, text: &[u8]) -> Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text))
        .map_err(|error| Error::os("write", path.display().to_string(), error))
}

fn all() -> Result<Vec<(RunId, PathBuf)>> {
    let root = root()?;
    let entries = fs::read_dir(&root).map_err(|error| Error::os("read", root.display().to_string(), error))?;
    Ok(entries.flatten().filter_map(|entry| Some((RunId::parse(entry.file_name().to_str()?)?, entry.path()))).collect())
}

/// `None` when a live process holds the lock, or when the directory was just removed.
fn try_lock(dir: &Path, create: bool) -> Result<Option<Flock<File>>> {
    let path = dir.join("alive");
    let file = match OpenOptions::new().create(create).truncate(false).write(true).mode(0o600).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::os("open", path.display().to_string(), error)),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(Error::os("lock", path.display().to_string(), errno)),
    }
}
