//! One machine of the test network: anonymous network, mount and cgroup namespaces, and how
//! processes are started in them.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{io, thread};

use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use crate::wait::Gate;

/// The environment variable that marks every process started in a namespace, by which
/// [`TestNamespace::processes`] finds it.
const MARK: &str = "NETWATCH_TEST_NAMESPACE";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The three namespaces. When this is dropped, they are removed and processes that are left in them
/// are killed.
#[derive(Debug)]
pub struct TestNamespace {
    name: String,
    holder: Child,
    handles: Arc<NamespaceHandles>,
    // Dropped after the holder, which is the last process of the group.
    cgroup: Option<TestCgroup>,
    dir: TempDir,
}

/// A control group at the root of the hierarchy, removed with all groups below it.
#[derive(Debug)]
struct TestCgroup {
    mount: PathBuf,
    path: PathBuf,
    procs: File,
}

/// Open descriptors by which a new process enters the namespaces.
#[derive(Debug)]
struct NamespaceHandles {
    mnt: File,
    cgroup: Option<File>,
    net: File,
    procs: Option<File>,
}

impl TestNamespace {
    /// Creates the namespaces. `role` is part of the name.
    pub fn new(role: &str) -> Self {
        let name = format!("nwt-{}-{}-{role}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix(&name).tempdir().expect("make a temporary directory");
        // Commands may run as an ordinary user and need access to the files of the test.
        chmod(dir.path(), 0o755);
        fs::create_dir(dir.path().join("etc")).expect("make a directory");
        let cgroup = TestCgroup::new(&name);
        let mut holder = start_holder(dir.path(), cgroup.as_ref());
        wait_until_ready(&mut holder, &name);
        let handles = Arc::new(NamespaceHandles::open(&holder, cgroup.as_ref()));
        Self { name, holder, handles, cgroup, dir }
    }

    /// The name, unique on the machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Pid of a process in the namespaces, for `ip link … netns PID` and `nsenter -t PID`.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A directory that has the same path inside and outside.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `$XDG_STATE_HOME` of processes inside.
    pub fn state_home(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The path of its `/etc` from outside. Absolute symbolic links in it lead to files outside.
    pub fn etc(&self) -> PathBuf {
        format!("/proc/{}/root/etc", self.pid()).into()
    }

    /// A command that runs inside, in [`TestNamespace::dir`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = crate::inherited::command(program);
        // Recordings are removed with the directory.
        command.env("XDG_STATE_HOME", self.state_home());
        command.env(MARK, &self.name).stdin(Stdio::null());
        let handles = Arc::clone(&self.handles);
        let dir = self.dir.path().to_owned();
        let enter = move || {
            handles.enter()?;
            std::env::set_current_dir(&dir)
        };
        // SAFETY: between fork and exec only system calls are made: write, setns, chdir.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a shell script inside and returns its output. Panics when it fails.
    pub fn sh(&self, script: &str) -> String {
        let (ok, text) = self.try_sh(script);
        assert!(ok, "in {}: `{script}` failed: {text}", self.name);
        text
    }

    /// Runs a shell script inside. Returns whether it succeeded, and its output.
    pub fn try_sh(&self, script: &str) -> (bool, String) {
        let output = self.command("sh").args(["-euc", script]).output().expect("start a shell");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// Waits until a shell script succeeds.
    pub fn wait_for(&self, condition: &str) {
        let tried = crate::eventually(|| match self.try_sh(condition) {
            (true, _) => Ok(()),
            (false, text) => Err(text),
        });
        tried.unwrap_or_else(|text| panic!("never came true on {}: {condition} ({text})", self.name()));
    }

    /// A new [`Gate`] for a shell script that runs inside.
    pub fn gate(&self) -> Gate {
        Gate::new(self.dir.path().join(format!("gate-{}", NEXT.fetch_add(1, Ordering::Relaxed))))
    }

    /// Calls `work` on a new thread in the network namespace, for sockets of the test itself.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        let handles = Arc::clone(&self.handles);
        thread::spawn(move || {
            setns(&handles.net, CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
            work()
        })
    }

    /// Every process that was started inside, and its descendants, except the holder of the
    /// namespaces.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.name);
        let carries = |pid: i32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()))
        };
        // A process that overwrites its environment with its command line (nginx) is found by its
        // network namespace.
        let net = fs::read_link(format!("/proc/{}/ns/net", self.pid())).ok();
        let lives_here = |pid: i32| net.is_some() && fs::read_link(format!("/proc/{pid}/ns/net")).ok() == net;
        let holder = self.holder.id() as i32;
        all_pids().filter(|pid| *pid != holder && (carries(*pid) || lives_here(*pid)) && !is_zombie(*pid)).collect()
    }

    /// Paths of the control groups below its root, from outside; `None` without cgroup v2.
    pub fn cgroups(&self) -> Option<Vec<PathBuf>> {
        let mut found = Vec::new();
        subdirectories(&self.cgroup.as_ref()?.path, &mut found);
        found.sort();
        Some(found)
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        for pid in self.processes() {
            // SAFETY: the call takes no pointer. The process has the mark of this namespace.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl TestCgroup {
    /// `None` without cgroup v2, or where no group can be created.
    fn new(name: &str) -> Option<Self> {
        let mount = cgroup_mount()?;
        let path = mount.join(name);
        fs::create_dir(&path).ok()?;
        let procs = OpenOptions::new().write(true).open(path.join("cgroup.procs")).ok()?;
        Some(Self { mount, path, procs })
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        remove_cgroups(&self.path);
    }
}

impl NamespaceHandles {
    fn open(holder: &Child, cgroup: Option<&TestCgroup>) -> Self {
        let open = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", holder.id())).expect("open a namespace");
        let procs = cgroup.map(|cgroup| cgroup.procs.try_clone().expect("duplicate a descriptor"));
        Self { mnt: open("mnt"), cgroup: cgroup.map(|_| open("cgroup")), net: open("net"), procs }
    }

    fn enter(&self) -> io::Result<()> {
        if let Some(procs) = &self.procs {
            // "0" stands for the writing process. No allocation, because this runs between fork and
            // exec.
            nix::unistd::write(procs, b"0")?;
        }
        setns(&self.mnt, CloneFlags::CLONE_NEWNS)?;
        if let Some(cgroup) = &self.cgroup {
            setns(cgroup, CloneFlags::CLONE_NEWCGROUP)?;
        }
        Ok(setns(&self.net, CloneFlags::CLONE_NEWNET)?)
    }
}

fn start_holder(dir: &Path, cgroup: Option<&TestCgroup>) -> Child {
    let mut command = crate::inherited::command("unshare");
    command.args(["--net", "--mount"]);
    if cgroup.is_some() {
        command.arg("--cgroup");
    }
    command.args(["sh", "-c", include_str!("namespace.sh"), "namespace.sh"]);
    command.arg(dir.join("etc")).arg(cgroup.map_or(Path::new(""), |cgroup| &cgroup.mount));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(cgroup) = cgroup {
        let procs = cgroup.procs.as_raw_fd();
        let join = move || {
            // SAFETY: the descriptor is open until the child has been started; one byte is written.
            let wrote = unsafe { libc::write(procs, b"0".as_ptr().cast(), 1) };
            if wrote == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: a single system call between fork and exec.
        unsafe { command.pre_exec(join) };
    }
    command.spawn().expect("start unshare")
}

fn wait_until_ready(holder: &mut Child, name: &str) {
    let mut line = String::new();
    let stdout = holder.stdout.take().expect("stdout is a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("read from the namespace's holder");
    assert_eq!(line.trim(), "ready", "the namespace {name} could not be set up");
}

/// The mount point of the cgroup v2 hierarchy, which is not `/sys/fs/cgroup` on hybrid systems.
fn cgroup_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("change permissions");
}

fn all_pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").expect("read /proc").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn subdirectories(path: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        subdirectories(&entry.path(), found);
        found.push(entry.path());
    }
}

/// Removes groups below before those above. A group is busy (EBUSY) until its last process has
/// ended.
fn remove_cgroups(root: &Path) {
    let mut all = Vec::new();
    subdirectories(root, &mut all);
    all.push(root.to_owned());
    for path in all {
        let _ = crate::eventually(|| match fs::remove_dir(&path) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(error.to_string()),
            _ => Ok(()),
        });
    }
}
