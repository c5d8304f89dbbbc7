//! A cgroup (v2) that netwatch did not create: a service of systemd, a container, or that of a
//! process. Reads only.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::cgroup::{children, is_cgroup, path_in_hierarchy, root};
use crate::error::{Error, Result};
use crate::proc::mountinfo;
use crate::proc::stat::ProcStat;

/// What the names of units of systemd that have a cgroup end with.
const UNIT_SUFFIXES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];
/// More than a process can have ancestors, unless the list changes while it is read.
const MAX_ANCESTORS: usize = 4096;

/// An open cgroup.
#[derive(Debug)]
pub struct ExistingCgroup {
    directory: File,
    path: PathBuf,
    name: String,
}

impl ExistingCgroup {
    /// Opens a path of the file system, or one below the root of the hierarchy as in
    /// /proc/PID/cgroup.
    pub fn open(path: &str) -> Result<Self> {
        let given = Path::new(path);
        if let Some(found) = fs::canonicalize(given).ok().filter(|_| given.is_absolute())
            && is_cgroup(&found)
        {
            let mounts = mountinfo::read()?;
            let mut mounts = mounts.iter().filter(|mount| mount.file_system == "cgroup2");
            let below = mounts.find_map(|mount| Some(mount.root.join(found.strip_prefix(&mount.point).ok()?)));
            return Self::at(found, below.unwrap_or_else(|| given.to_owned()));
        }
        let below = given.strip_prefix("/").unwrap_or(given);
        let in_hierarchy = root()?.join(below);
        let is_below = below.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_below || !is_cgroup(&in_hierarchy) {
            let error = Error::other("open cgroup", path, "there is no such cgroup v2");
            return Err(error.hint("give its path below /sys/fs/cgroup, or that in /proc/PID/cgroup"));
        }
        Self::at(in_hierarchy, Path::new("/").join(below))
    }

    /// The cgroup of a unit of systemd: the only one with its name. `.service` may be left out.
    pub fn of_unit(name: &str) -> Result<Self> {
        let is_whole = UNIT_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
        let name = if is_whole { name.to_owned() } else { format!("{name}.service") };
        let root = root()?;
        let mut found = Vec::new();
        find(&root, &name, &mut found);
        // A user can make a cgroup of any name inside one of their own.
        let is_of_root =
            |path: &PathBuf| path.parent().and_then(|path| fs::metadata(path).ok()).is_some_and(|of| of.uid() == 0);
        if found.iter().any(is_of_root) {
            found.retain(is_of_root);
        }
        let failed = |cause: String| Error::other("find", format!("unit {name}"), cause);
        let below = |path: &Path| Path::new("/").join(path.strip_prefix(&root).unwrap_or(path));
        match &found[..] {
            [] => Err(failed("no cgroup has its name: it does not run".to_owned())),
            [one] => Self::at(one.clone(), below(one)),
            [one, ..] => Err(failed(format!("{} cgroups have its name", found.len()))
                .hint(format!("give the path of one of them: --cgroup {}", below(one).display()))),
        }
    }

    /// The cgroup of a process.
    pub fn of_process(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path).map_err(|cause| Error::os("read", &path, cause))?;
        let below = path_in_hierarchy(&text, "its")
            .map_err(|cause| Error::other("find the cgroup of process", pid.to_string(), cause))?;
        Self::at(root()?.join(&below), Path::new("/").join(below))
    }

    fn at(path: PathBuf, below: PathBuf) -> Result<Self> {
        let name = below.display().to_string();
        let directory = File::open(&path).map_err(|cause| Error::os("open cgroup", &name, cause))?;
        Ok(Self { directory, path, name })
    }

    /// Its path below the root of the hierarchy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its directory, valid in this process.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the other cgroup, or contains it.
    pub fn contains(&self, other: &Self) -> bool {
        Path::new(&other.name).starts_with(&self.name)
    }

    /// Whether it was removed.
    pub fn has_ended(&self) -> bool {
        match (fs::metadata(&self.path), self.directory.metadata()) {
            (Ok(now), Ok(opened)) => now.ino() != opened.ino(),
            _ => true,
        }
    }

    /// The processes in it and below, in the PID namespace of netwatch.
    pub fn processes(&self) -> HashSet<u32> {
        let mut found = HashSet::new();
        for_each_below(&self.path, &mut |path| {
            let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
        });
        found
    }

    /// The numbers of it and of those below, by which the kernel identifies the cgroups of sockets.
    pub fn numbers(&self) -> HashSet<u64> {
        let mut found = HashSet::new();
        for_each_below(&self.path, &mut |path| found.extend(fs::metadata(path).map(|data| data.ino())));
        found
    }
}

impl AsFd for ExistingCgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The processes that are one of these, or descend from one.
pub fn trees(ancestors: &[u32]) -> HashSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| ancestors.iter().any(|ancestor| descends_from(*pid, *ancestor))).collect()
}

/// Whether a process is this one, or descends from it.
pub fn descends_from(pid: u32, ancestor: u32) -> bool {
    let parent = |pid: &u32| ProcStat::of(*pid).map(|stat| stat.parent).filter(|pid| *pid != 0);
    std::iter::successors(Some(pid), parent).take(MAX_ANCESTORS).any(|pid| pid == ancestor)
}

fn find(path: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for below in children(path) {
        if below.file_name().is_some_and(|last| last == name) {
            found.push(below);
        } else {
            find(&below, name, found);
        }
    }
}

fn for_each_below(path: &Path, each: &mut impl FnMut(&Path)) {
    each(path);
    children(path).iter().for_each(|below| for_each_below(below, each));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cgroup_of_this_process_by_its_path() {
        let own = ExistingCgroup::of_process(std::process::id()).expect("a cgroup");
        assert!(own.processes().contains(&std::process::id()) && !own.numbers().is_empty() && !own.has_ended());
        let again = ExistingCgroup::open(own.name()).expect("a cgroup");
        assert_eq!((again.name(), again.numbers()), (own.name(), own.numbers()));
        assert!(own.contains(&again) && ExistingCgroup::open("/").expect("the root").contains(&own));
        for path in ["/nothere", "/../x", "/proc", "relative"] {
            let error = ExistingCgroup::open(path).expect_err("no cgroup").to_string();
            assert!(error.contains("there is no such cgroup"), "{path}: {error}");
        }
        let error = ExistingCgroup::of_unit("no such unit").expect_err("no unit").to_string();
        assert!(error.contains("find unit no such unit.service: no cgroup has its name"), "{error}");
    }

    #[test]
    fn the_error_about_a_cgroup_outside_the_namespace_names_whose_it_is() {
        let error = path_in_hierarchy("0::/../x.service\n", "its").expect_err("outside");
        assert_eq!(error, "its cgroup is outside the cgroup namespace of netwatch");
    }

    #[test]
    fn descendants_are_found_by_their_parents() {
        let own = std::process::id();
        assert!(descends_from(own, own) && descends_from(own, std::os::unix::process::parent_id()));
        assert!(!descends_from(std::os::unix::process::parent_id(), own));
    }
}
