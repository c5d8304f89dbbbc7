//! One machine of the made-up internet: anonymous network, mount and cgroup namespaces. Not what runs in it.

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

/// The environment variable that marks every process started in a namespace, so that none can hide from [`TestNamespace::processes`].
const MARK: &str = "NETWATCH_TEST_NAMESPACE";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The three namespaces. They last as long as this value; processes that are left in them when it is dropped are killed.
#[derive(Debug)]
pub struct TestNamespace {
    name: String,
    holder: Child,
    doors: Arc<NamespaceHandles>,
    // After the holder: it is the last to leave the group.
    cgroup: Option<TestCgroup>,
    dir: TempDir,
}

/// A control group of our own at the root of the hierarchy, removed with all below it.
#[derive(Debug)]
struct TestCgroup {
    mount: PathBuf,
    path: PathBuf,
    procs: File,
}

/// Open handles through which a new process enters.
#[derive(Debug)]
struct NamespaceHandles {
    mnt: File,
    cgroup: Option<File>,
    net: File,
    procs: Option<File>,
}

impl TestNamespace {
    /// Makes one. `role` is part of its name.
    pub fn new(role: &str) -> Self {
        let name = format!("nwt-{}-{}-{role}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::Builder::new().prefix(&name).tempdir().expect("make a temporary directory");
        // The command may run as an ordinary user and must reach what the test puts here.
        chmod(dir.path(), 0o755);
        fs::create_dir(dir.path().join("etc")).expect("make a directory");
        let cgroup = TestCgroup::new(&name);
        let mut holder = start_holder(dir.path(), cgroup.as_ref());
        wait_until_ready(&mut holder, &name);
        let doors = Arc::new(NamespaceHandles::open(&holder, cgroup.as_ref()));
        Self { name, holder, doors, cgroup, dir }
    }

    /// Its name, unique on the machine.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A process that stays in it: what `ip link … netns PID` and `nsenter -t PID` want.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A directory of its own, seen under the same path from everywhere.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `$XDG_STATE_HOME` of what runs inside.
    pub fn state_home(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Its `/etc`, as seen from outside. Absolute symbolic links in it would lead out.
    pub fn etc(&self) -> PathBuf {
        format!("/proc/{}/root/etc", self.pid()).into()
    }

    /// A command that will run inside, in its [`TestNamespace::dir`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = crate::inherited::command(program);
        // Recordings go where they are removed with everything else.
        command.env("XDG_STATE_HOME", self.state_home());
        command.env(MARK, &self.name).stdin(Stdio::null());
        let doors = Arc::clone(&self.doors);
        let dir = self.dir.path().to_owned();
        let enter = move || {
            doors.enter()?;
            std::env::set_current_dir(&dir)
        };
        // SAFETY: between fork and exec only system calls are made: write, setns, chdir.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a shell script inside and gives back what it printed; it must succeed.
    pub fn sh(&self, script: &str) -> String {
        let (ok, text) = self.try_sh(script);
        assert!(ok, "in {}: `{script}` failed: {text}", self.name);
        text
    }

    /// Runs a shell script inside: whether it succeeded, and all it printed.
    pub fn try_sh(&self, script: &str) -> (bool, String) {
        let output = self.command("sh").args(["-euc", script]).output().expect("start a shell");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// Lets a shell condition become true, for a second at most.
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

    /// Calls `work` on a new thread that is in the network namespace (only), for sockets made by the test itself.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
        let doors = Arc::clone(&self.doors);
        thread::spawn(move || {
            setns(&doors.net, CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
            work()
        })
    }

    /// Every process that was started in it or descends from one that was, but for the one that holds it open.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.name);
        let carries = |pid: i32| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()))
        };
        // A process that changes its command line over the environment (nginx) is found by its network namespace.
        let net = fs::read_link(format!("/proc/{}/ns/net", self.pid())).ok();
        let lives_here = |pid: i32| net.is_some() && fs::read_link(format!("/proc/{pid}/ns/net")).ok() == net;
        let holder = self.holder.id() as i32;
        all_pids().filter(|pid| *pid != holder && (carries(*pid) || lives_here(*pid)) && !is_zombie(*pid)).collect()
    }

    /// The control groups below its root, as seen from outside; `None` without cgroup v2.
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
            // SAFETY: a plain system call; the process carries our mark.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl TestCgroup {
    /// `None` where there is no cgroup v2 or no way to make a group.
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
        let door = |kind: &str| File::open(format!("/proc/{}/ns/{kind}", holder.id())).expect("open a namespace");
        let procs = cgroup.map(|cgroup| cgroup.procs.try_clone().expect("duplicate a descriptor"));
        Self { mnt: door("mnt"), cgroup: cgroup.map(|_| door("cgroup")), net: door("net"), procs }
    }

    fn enter(&self) -> io::Result<()> {
        if let Some(procs) = &self.procs {
            // "0" means the writer. Without allocation: this runs between fork and exec.
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

/// Where the cgroup v2 hierarchy is; on hybrid systems that is not `/sys/fs/cgroup`.
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

/// Leaves first. A group whose last process was killed a moment ago is still busy for a little while.
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
