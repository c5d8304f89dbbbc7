//! A cgroup (v2) for the processes of a run: whatever they do with sessions and process groups, they can be found and ended. No resource
//! limits, no controllers. Synchronous, because the guardian uses it too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pidfd;
use crate::undo::{Journal, RunId, UndoRecord};

/// How long killed processes may take to be gone: one in uninterruptible sleep takes its time.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came of asking for a cgroup.
#[derive(Debug)]
pub enum Made {
    /// Here it is.
    Cgroup(Cgroup),
    /// This machine has none for us; why.
    None(String),
}

/// The cgroup of a run. Dropping it kills what is left in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes `netwatch-<id>` below the caller's own cgroup.
    pub fn create(id: &RunId, journal: &Journal) -> Result<Made> {
        let parent = match own() {
            Ok(parent) => parent,
            Err(reason) => return Ok(Made::None(reason)),
        };
        let path = parent.join(format!("netwatch-{id}"));
        journal.record(&RunCgroup { path: path.clone() })?;
        match fs::create_dir(&path) {
            Ok(()) => {}
            // A container's read-only cgroup file system, one whose owner allows no more children, or one that is mounted over.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EROFS | libc::EACCES | libc::EPERM | libc::EAGAIN | libc::ENOENT)
                ) =>
            {
                return Ok(Made::None(Error::os("create cgroup", path.display().to_string(), error).to_string()));
            }
            Err(error) => return Err(Error::os("create cgroup", path.display().to_string(), error)),
        }
        let cgroup = Self { path };
        // Below a threaded cgroup a new one takes no processes; and what looks like one is a plain directory where something else is mounted over it.
        match fs::read_to_string(cgroup.path.join("cgroup.type")) {
            Ok(kind) if kind.trim() == "domain" => Ok(Made::Cgroup(cgroup)),
            Ok(kind) => Ok(Made::None(format!("a cgroup below ours is {}", kind.trim()))),
            Err(error) => {
                Ok(Made::None(Error::os("read the type of", cgroup.path.display().to_string(), error).to_string()))
            }
        }
    }

    /// Where it is in the file system.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that a process writes `0` to (or another's pid) to be in the cgroup.
    pub fn procs_path(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Ends every process in it and below, with SIGKILL, and waits until they are gone.
    pub fn kill_all(&self) -> Result<()> {
        kill_all(&self.path)
    }

    /// Ends what is left and removes it.
    pub fn remove(self) -> Result<()> {
        undo(&self.path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = undo(&self.path);
    }
}

/// The cgroup of a run: the processes in it are killed, then it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCgroup {
    /// Absolute path in the cgroup file system.
    pub path: PathBuf,
}

impl UndoRecord for RunCgroup {
    const KIND: &'static str = "cgroup";
}

/// Undoes [`RunCgroup`]: kills its processes, removes it and what was created below. Refuses paths that are not of a run.
pub fn undo(path: &Path) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("netwatch-"));
    if name.and_then(RunId::parse).is_none() {
        return Err(Error::other("remove cgroup", path.display().to_string(), "not the cgroup of a run"));
    }
    if !path.exists() {
        return Ok(());
    }
    kill_all(path)?;
    remove_tree(path)
}

fn kill_all(path: &Path) -> Result<()> {
    let started = Instant::now();
    while populated(path)? {
        if started.elapsed() > PATIENCE {
            return Err(Error::other(
                "end processes of",
                path.display().to_string(),
                "some are still there after 2 seconds",
            ));
        }
        kill_once(path)?;
        if populated(path)? {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// `cgroup.kill` (5.14) ends all at once, also those being forked meanwhile. Before, one by one until no new ones appear.
fn kill_once(path: &Path) -> Result<()> {
    match fs::OpenOptions::new().write(true).open(path.join("cgroup.kill")) {
        Ok(mut file) => io::Write::write_all(&mut file, b"1")
            .map_err(|error| Error::os("end processes of", path.display().to_string(), error)),
        Err(_) => kill_one_by_one(path),
    }
}

fn kill_one_by_one(path: &Path) -> Result<()> {
    for below in children(path) {
        kill_one_by_one(&below)?;
    }
    let procs = match fs::read_to_string(path.join("cgroup.procs")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::os("read processes of", path.display().to_string(), error)),
    };
    // Zero stands for a process outside our pid namespace; to kill it would be to kill our own group.
    procs
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid: &i32| *pid > 0)
        .try_for_each(|pid| kill_member(path, pid))
}

fn kill_member(path: &Path, pid: i32) -> Result<()> {
    let members = || fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    pidfd::kill_if(pid, || members().lines().any(|line| line.parse() == Ok(pid)))
        .map_err(|error| Error::os("end process", pid.to_string(), error))
}

/// Whether it or one below has a live process. A cgroup that is gone has none.
fn populated(path: &Path) -> Result<bool> {
    match fs::read_to_string(path.join("cgroup.events")) {
        Ok(text) => Ok(text.lines().any(|line| line == "populated 1")),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
        Err(error) => Err(Error::os("read events of", path.display().to_string(), error)),
    }
}

fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_tree(path: &Path) -> Result<()> {
    for below in children(path) {
        remove_tree(&below)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::os("remove cgroup", path.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// The directory of the caller's own cgroup, or why there is none to be had.
pub fn own() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"));
    locate(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
}

/// Pure: where in the file system the process is whose `mountinfo` and `cgroup` these are. In a hybrid hierarchy the v2 mount is not
/// /sys/fs/cgroup; in a container its root may be somewhere inside the hierarchy.
fn locate(mountinfo: &str, cgroup: &str) -> Result<PathBuf, String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).ok_or("this kernel has no cgroup v2")?;
    if path.split('/').any(|part| part == "..") {
        return Err("our own cgroup is outside our cgroup namespace".into());
    }
    let mounts = mountinfo.lines().filter_map(cgroup2_mount).collect::<Vec<_>>();
    if mounts.is_empty() {
        return Err("cgroup v2 is mounted nowhere (mount -t cgroup2 none /sys/fs/cgroup)".into());
    }
    let below = mounts.iter().find_map(|(root, mount)| Some(mount.join(relative(path, root)?)));
    below.ok_or_else(|| format!("our own cgroup {path} is not below any cgroup v2 mount"))
}

/// `path` without `root` before it.
fn relative<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// Root and mount point of a line of mountinfo that is of a cgroup2 file system (proc(5)).
fn cgroup2_mount(line: &str) -> Option<(String, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    (after.split(' ').next() == Some("cgroup2")).then_some(())?;
    let mut fields = before.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?).into()))
}

/// Blanks and backslashes in paths are written in octal.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(field.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::host::testing::in_fresh_namespace;
    use crate::undo::{Exclusive, RunDir};

    const UNIFIED: &str = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const HYBRID: &str = "34 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                          35 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn finds_the_own_cgroup_wherever_v2_is_mounted() {
        let located = |mountinfo, cgroup| locate(mountinfo, cgroup).map(|path| path.display().to_string());
        assert_eq!(located(UNIFIED, "0::/user.slice/a b.scope\n").unwrap(), "/sys/fs/cgroup/user.slice/a b.scope");
        assert_eq!(
            located(HYBRID, "9:name=systemd:/x\n0::/\n").unwrap().trim_end_matches('/'),
            "/sys/fs/cgroup/unified"
        );
        let container = UNIFIED.replace("0:30 / /", "0:30 /docker/1f /");
        assert_eq!(located(&container, "0::/docker/1f/x\n").unwrap(), "/sys/fs/cgroup/x");
        assert!(located(&container, "0::/docker/1f2\n").unwrap_err().contains("not below"));
        assert!(located(UNIFIED, "0::/../other\n").unwrap_err().contains("outside"));
        assert!(located("", "0::/\n").unwrap_err().contains("mounted nowhere"));
        assert!(located(UNIFIED, "4:memory:/\n").unwrap_err().contains("no cgroup v2"));
        assert!(located(&UNIFIED.replace("/sys/fs/cgroup", "/a\\040b"), "0::/\n").unwrap().starts_with("/a b"));
    }

    fn with_cgroup(test: impl FnOnce(Cgroup) + Send) {
        in_fresh_namespace(|| {
            let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
            match Cgroup::create(run.id(), &Journal::open(&run).unwrap()).unwrap() {
                Made::Cgroup(cgroup) => test(cgroup),
                Made::None(reason) => eprintln!("skipped: {reason}"),
            }
        });
    }

    fn sleeper_in(path: &Path) -> Child {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(path.join("cgroup.procs"), child.id().to_string()).unwrap();
        child
    }

    #[test]
    fn kills_what_is_in_it_and_below_and_goes() {
        with_cgroup(|cgroup| {
            let below = cgroup.path().join("below");
            fs::create_dir(&below).unwrap();
            let mut children = [sleeper_in(cgroup.path()), sleeper_in(&below)];
            let path = cgroup.path().to_owned();
            cgroup.remove().unwrap();
            assert!(!path.exists());
            assert!(children.iter_mut().all(|child| !child.wait().unwrap().success()));
            undo(&path).unwrap();
        });
    }

    #[test]
    fn kills_one_by_one_on_old_kernels() {
        with_cgroup(|cgroup| {
            let mut child = sleeper_in(cgroup.path());
            let mut outside = Command::new("sleep").arg("60").spawn().unwrap();
            kill_member(cgroup.path(), outside.id() as i32).unwrap();
            kill_one_by_one(cgroup.path()).unwrap();
            assert!(!child.wait().unwrap().success());
            assert_eq!(outside.try_wait().unwrap(), None, "a process outside was killed");
            outside.kill().unwrap();
            outside.wait().unwrap();
        });
    }

    #[test]
    fn refuses_to_empty_a_cgroup_that_is_not_a_runs() {
        for path in ["/sys/fs/cgroup", "/sys/fs/cgroup/netwatch-", "/sys/fs/cgroup/system.slice", "/"] {
            assert!(undo(Path::new(path)).is_err(), "{path}");
        }
    }
}
