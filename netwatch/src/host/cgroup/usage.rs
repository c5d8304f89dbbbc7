//! CPU and memory of the processes of a run: at its end, and repeatedly while they run.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::children;

/// With more processes, or cgroups below, the memory is not summed up: each costs a read of a file.
const MAX_SUMMED: usize = 256;

/// What the processes of a cgroup have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupUsage {
    /// Time in user mode, nanoseconds.
    pub user_ns: u64,
    /// Time in the kernel, nanoseconds.
    pub system_ns: u64,
    /// Peak of memory, bytes; `None` where the memory controller is off.
    pub memory_peak: Option<u64>,
}

/// What the processes in this directory have used, the exited ones included.
pub(super) fn usage(directory: &Path) -> Option<CgroupUsage> {
    let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
    let memory_peak = read("memory.peak").and_then(|text| text.trim().parse().ok());
    parse_cpu(&read("cpu.stat")?).map(|(user_ns, system_ns)| CgroupUsage { user_ns, system_ns, memory_peak })
}

/// Reads the usage of a cgroup again and again, from files that stay open.
#[derive(Debug)]
pub struct UsageReader {
    cpu: File,
    memory: MemoryFile,
}

/// Where the memory of a cgroup is read.
#[derive(Debug)]
enum MemoryFile {
    /// `memory.current`: the memory controller is on. Page cache is included.
    Controller(File),
    /// The resident memory of each process in this directory and below is summed up.
    Processes(PathBuf),
}

impl UsageReader {
    pub(super) fn open(directory: &Path) -> Option<Self> {
        let memory = match File::open(directory.join("memory.current")) {
            Ok(file) => MemoryFile::Controller(file),
            Err(_) => MemoryFile::Processes(directory.to_owned()),
        };
        Some(Self { cpu: File::open(directory.join("cpu.stat")).ok()?, memory })
    }

    /// CPU time so far, in user mode and in the kernel, nanoseconds. `None` once the cgroup was
    /// removed.
    pub fn cpu_ns(&self) -> Option<(u64, u64)> {
        parse_cpu(&read_again(&self.cpu)?)
    }

    /// Current memory, bytes; `None` if it is unknown. Without the controller, pages that several
    /// processes share count for each.
    pub fn memory(&self) -> Option<u64> {
        match &self.memory {
            MemoryFile::Controller(file) => read_again(file)?.trim().parse().ok(),
            MemoryFile::Processes(directory) => {
                let pids = processes(directory)?;
                Some(pids.iter().filter_map(|pid| resident(pid)).sum())
            }
        }
    }
}

/// The processes of a cgroup and of those below; `None` if there are too many, or if the cgroup was
/// removed.
fn processes(directory: &Path) -> Option<Vec<String>> {
    let mut pids = Vec::new();
    let mut cgroups = vec![directory.to_owned()];
    let mut number = 0;
    while let Some(cgroup) = cgroups.pop() {
        let found = match fs::read_to_string(cgroup.join("cgroup.procs")) {
            Ok(found) => found,
            Err(_) if number == 0 => return None,
            // One below was removed, or is threaded: its processes are those of the one above.
            Err(_) => String::new(),
        };
        pids.extend(found.lines().filter(|pid| *pid != "0").map(str::to_owned));
        cgroups.extend(children(&cgroup));
        number += 1;
        if pids.len() > MAX_SUMMED || number + cgroups.len() > MAX_SUMMED {
            return None;
        }
    }
    Some(pids)
}

fn read_again(file: &File) -> Option<String> {
    let mut bytes = [0; 4096];
    let length = file.read_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes[..length].to_vec()).ok()
}

/// Resident memory of a process, bytes; `None` if it has exited.
fn resident(pid: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: sysconf with a constant.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.checked_mul(u64::try_from(page_bytes).ok()?)
}

/// The times of user and system mode in `cpu.stat`, which has microseconds.
fn parse_cpu(text: &str) -> Option<(u64, u64)> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        line.parse::<u64>().ok()?.checked_mul(1_000)
    };
    Some((value("user_usec")?, value("system_usec")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_those_of_the_kernel_in_nanoseconds() {
        let text = "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 0\n";
        assert_eq!(parse_cpu(text), Some((20_000, 10_000)));
        assert_eq!(parse_cpu("usage_usec 30\n"), None);
    }

    #[test]
    fn usage_is_read_again_from_open_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |file: &str, text: &str| fs::write(dir.path().join(file), text).expect("written");
        write("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n");
        write("cgroup.procs", &format!("{}\n0\n", std::process::id()));
        let reader = UsageReader::open(dir.path()).expect("opened");
        assert_eq!(reader.cpu_ns(), Some((3_000, 2_000)));
        assert!(reader.memory().is_some_and(|bytes| bytes > 100_000), "its own memory: {:?}", reader.memory());
        write("cpu.stat", "usage_usec 50\nuser_usec 30\nsystem_usec 20\n");
        assert_eq!(reader.cpu_ns(), Some((30_000, 20_000)));
        write("memory.current", "4096\n");
        assert_eq!(UsageReader::open(dir.path()).expect("opened").memory(), Some(4_096));
    }

    #[test]
    fn processes_of_cgroups_below_are_part_of_the_sum_unless_there_are_too_many() {
        let dir = tempfile::tempdir().expect("a directory");
        let below = |name: &str, pids: &str| {
            let cgroup = dir.path().join(name);
            fs::create_dir_all(&cgroup).expect("made");
            fs::write(cgroup.join("cgroup.procs"), pids).expect("written");
        };
        below(".", "7\n");
        below("a", "8\n0\n");
        below("a/b", "9\n");
        fs::create_dir(dir.path().join("threaded")).expect("made");
        let mut found = processes(dir.path()).expect("a few");
        found.sort();
        assert_eq!(found, ["7", "8", "9"]);
        (0..MAX_SUMMED).for_each(|number| below(&format!("c{number}"), ""));
        assert_eq!(processes(dir.path()), None, "too many cgroups");
        assert_eq!(processes(&dir.path().join("removed")), None);
    }
}
