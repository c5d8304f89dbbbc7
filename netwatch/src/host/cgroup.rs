//! A cgroup (v2) for the processes of a run, by which they can be found and killed whatever
//! sessions and process groups they create. It has no controllers and no resource limits. The code
//! is synchronous, because the guardian uses it too.

mod usage;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};

pub use usage::{CgroupUsage, UsageReader};

use super::detached_mount::DetachedMount;
use crate::error::{Error, Result};
use crate::pidfd;
use crate::proc::mountinfo::{self, Mount};
use crate::undo::{Journal, RunId, UndoRecord};

/// How long killed processes may take to exit: one in uninterruptible sleep exits only after it
/// wakes.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of [`Cgroup::create`].
#[derive(Debug)]
pub enum CgroupOutcome {
    /// The cgroup.
    Created(Cgroup),
    /// Why this machine does not let netwatch create one.
    Unavailable(String),
}

/// The cgroup of a run. Dropping it kills the processes in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Creates `netwatch-<id>` below the caller's own cgroup.
    pub fn create(id: &RunId, journal: &Journal) -> Result<CgroupOutcome> {
        let parent = match own() {
            Ok(parent) => parent,
            Err(reason) => return Ok(CgroupOutcome::Unavailable(reason)),
        };
        let path = parent.path.join(format!("netwatch-{id}"));
        let in_hierarchy = parent.in_hierarchy.map(|own| own.join(format!("netwatch-{id}")));
        journal.record(&RunCgroup { path: path.clone(), in_hierarchy })?;
        match fs::create_dir(&path) {
            Ok(()) => {}
            // The cgroup file system is read-only (in a container), permits no more children, or is
            // hidden by another mount.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EROFS | libc::EACCES | libc::EPERM | libc::EAGAIN | libc::ENOENT)
                ) =>
            {
                return Ok(CgroupOutcome::Unavailable(
                    Error::os("create cgroup", path.display().to_string(), error).to_string(),
                ));
            }
            Err(error) => return Err(Error::os("create cgroup", path.display().to_string(), error)),
        }
        let cgroup = Self { path };
        // A new cgroup below a threaded one accepts no processes. If something else is mounted over
        // the cgroup file system, the new directory does not contain this file.
        match fs::read_to_string(cgroup.path.join("cgroup.type")) {
            Ok(kind) if kind.trim() == "domain" => Ok(CgroupOutcome::Created(cgroup)),
            Ok(kind) => Ok(CgroupOutcome::Unavailable(format!("a cgroup below netwatch's own is {}", kind.trim()))),
            Err(error) => Ok(CgroupOutcome::Unavailable(
                Error::os("read the type of", cgroup.path.display().to_string(), error).to_string(),
            )),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file to which a process writes `0` to enter the cgroup.
    pub fn procs_path(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// What its processes have used, the exited ones included. The kernel counts CPU time in every
    /// cgroup, and memory where the controller is enabled, which netwatch does not do: that would
    /// change the limits of other cgroups.
    pub fn usage(&self) -> Option<CgroupUsage> {
        usage::usage(&self.path)
    }

    /// A reader of what its processes use while they run.
    pub fn usage_reader(&self) -> Option<UsageReader> {
        UsageReader::open(&self.path)
    }

    /// Kills every process in it and below, and waits until they have exited.
    pub fn kill_all(&self) -> Result<()> {
        kill_all(&self.path)
    }

    /// Kills the processes in it and removes it.
    pub fn remove(self) -> Result<()> {
        remove(&self.path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = remove(&self.path);
    }
}

/// The cgroup of a run. Undoing kills the processes in it and removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCgroup {
    /// Absolute path in the cgroup file system.
    pub path: PathBuf,
    /// Its path below the root of the hierarchy, if `path` is in a detached mount, which only the
    /// process that created it and its guardian have.
    #[serde(default)]
    pub in_hierarchy: Option<PathBuf>,
}

impl UndoRecord for RunCgroup {
    const KIND: &'static str = "cgroup";
}

/// Undoes [`RunCgroup`]: kills its processes, removes it and what was created below. Refuses paths
/// that are not of a run.
pub fn undo(cgroup: &RunCgroup) -> Result<()> {
    let Some(in_hierarchy) = &cgroup.in_hierarchy else { return remove(&cgroup.path) };
    let root = PRIVATE_CGROUP.path().map_err(|error| Error::os("mount", "cgroup v2", error))?;
    remove(&root.join(in_hierarchy))
}

fn remove(path: &Path) -> Result<()> {
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
    while is_populated(path)? {
        if started.elapsed() > KILL_TIMEOUT {
            return Err(Error::other(
                "end processes of",
                path.display().to_string(),
                "some are still alive after 2 seconds",
            ));
        }
        kill_once(path)?;
        if is_populated(path)? {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// `cgroup.kill` (Linux 5.14) kills all at once, including those that are being forked. Before 5.14
/// they are killed one by one: call this again until none is left.
pub fn kill_once(path: &Path) -> Result<()> {
    match fs::OpenOptions::new().write(true).open(path.join("cgroup.kill")) {
        Ok(mut file) => io::Write::write_all(&mut file, b"1")
            .map_err(|error| Error::os("end processes of", path.display().to_string(), error)),
        Err(_) => {
            // Frozen processes (Linux 5.2) cannot fork, and SIGKILL still ends them. If the kernel
            // refuses to freeze them, the next call finds those that were forked during this one.
            let _ = fs::write(path.join("cgroup.freeze"), "1");
            kill_one_by_one(path)
        }
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
    // Zero is a process outside the pid namespace of netwatch; kill(0) would kill the process group
    // of netwatch itself.
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

/// Whether it or a cgroup below has a live process. A cgroup that was removed has none.
fn is_populated(path: &Path) -> Result<bool> {
    match fs::read_to_string(path.join("cgroup.events")) {
        Ok(text) => Ok(text.lines().any(|line| line == "populated 1")),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
        Err(error) => Err(Error::os("read events of", path.display().to_string(), error)),
    }
}

pub(super) fn children(path: &Path) -> Vec<PathBuf> {
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

/// The hierarchy, for processes that see no mount of it, as inside `ip netns exec`.
static PRIVATE_CGROUP: DetachedMount = DetachedMount::new(c"cgroup2");

/// The caller's own cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCgroup {
    /// Its directory.
    pub path: PathBuf,
    /// Its path below the root of the hierarchy, if `path` is in a detached mount.
    pub in_hierarchy: Option<PathBuf>,
}

/// The root of the hierarchy, as far as this process may see it: that of its cgroup namespace. The
/// path is valid in this process only.
pub fn root() -> Result<PathBuf> {
    PRIVATE_CGROUP.path().map_err(|error| Error::os("mount", "cgroup v2", error))
}

/// The caller's own cgroup, or why there is none. If cgroup v2 is not visible, it is mounted for
/// this process and those that it forks.
pub fn own() -> Result<OwnCgroup, String> {
    let read = |path: &str| fs::read(path).map_err(|error| format!("cannot read {path}: {error}"));
    let (mounts, cgroup) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    let cgroup = String::from_utf8_lossy(&cgroup);
    let hidden = match locate(&mountinfo::parse(&mounts), &cgroup) {
        Ok(path) if is_cgroup(&path) => return Ok(OwnCgroup { path, in_hierarchy: None }),
        Ok(path) => format!("another file system is mounted over {}", path.display()),
        Err(cause) => cause,
    };
    let in_hierarchy = path_in_hierarchy(&cgroup, OWN)?;
    let root = PRIVATE_CGROUP.path().map_err(|error| format!("{hidden}, and cannot be mounted: {error}"))?;
    Ok(OwnCgroup { path: root.join(&in_hierarchy), in_hierarchy: Some(in_hierarchy) })
}

/// Whose cgroup it is, in errors.
const OWN: &str = "netwatch's own";

pub(super) fn is_cgroup(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Pure: the path of the cgroup of a process below the root of its cgroup namespace, from its
/// /proc/PID/cgroup. `whose` it is, is for the error.
pub(super) fn path_in_hierarchy(cgroup: &str, whose: &str) -> Result<PathBuf, String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("this kernel has no cgroup v2")?;
    if path.split('/').any(|part| part == "..") {
        return Err(format!("{whose} cgroup is outside the cgroup namespace of netwatch"));
    }
    Ok(path.into())
}

/// Pure: where in the file system the cgroup of a process is, from its mounts and its
/// /proc/PID/cgroup. In a hybrid hierarchy the v2 mount is not /sys/fs/cgroup; in a container its
/// root may be somewhere inside the hierarchy.
fn locate(mounts: &[Mount], cgroup: &str) -> Result<PathBuf, String> {
    let path = Path::new("/").join(path_in_hierarchy(cgroup, OWN)?);
    let mut mounts = mounts.iter().filter(|mount| mount.file_system == "cgroup2").peekable();
    if mounts.peek().is_none() {
        return Err("cgroup v2 is mounted nowhere".into());
    }
    let below = mounts.find_map(|mount| Some(mount.point.join(path.strip_prefix(&mount.root).ok()?)));
    below.ok_or_else(|| format!("netwatch's own cgroup {} is not below any cgroup v2 mount", path.display()))
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
    fn finds_its_own_cgroup_wherever_v2_is_mounted() {
        let located = |mounts: &str, cgroup| {
            locate(&mountinfo::parse(mounts.as_bytes()), cgroup).map(|path| path.display().to_string())
        };
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
                CgroupOutcome::Created(cgroup) => test(cgroup),
                CgroupOutcome::Unavailable(reason) => eprintln!("skipped: {reason}"),
            }
        });
    }

    fn sleeper_in(path: &Path) -> Child {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(path.join("cgroup.procs"), child.id().to_string()).unwrap();
        child
    }

    #[test]
    fn kills_the_processes_in_it_and_below_and_is_removed() {
        with_cgroup(|cgroup| {
            let below = cgroup.path().join("below");
            fs::create_dir(&below).unwrap();
            let mut children = [sleeper_in(cgroup.path()), sleeper_in(&below)];
            let path = cgroup.path().to_owned();
            cgroup.remove().unwrap();
            assert!(!path.exists());
            assert!(children.iter_mut().all(|child| !child.wait().unwrap().success()));
            remove(&path).unwrap();
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
    fn refuses_to_undo_a_cgroup_that_is_not_of_a_run() {
        for path in ["/sys/fs/cgroup", "/sys/fs/cgroup/netwatch-", "/sys/fs/cgroup/system.slice", "/"] {
            assert!(remove(Path::new(path)).is_err(), "{path}");
        }
    }
}
