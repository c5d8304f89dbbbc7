//! The mounts against a real kernel. Each test has a host in a mount namespace of its own, with
//! /etc and /run in memory, and a target in a second one; the machine's own files are never
//! touched.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

use super::keep::{Keeper, KeptMounts};
use super::{MountPlan, prepare, write_readable};
use crate::proc::mountinfo;

const PRIVATE: &str = "/run/netwatch-test";
const OURS: &str = "nameserver 198.51.100.1\n";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const STUB: &str = "/run/systemd/resolve/stub-resolv.conf";

/// Runs a test in the host's namespaces.
fn as_host(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: mount namespaces need root");
        return;
    }
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
        remount(MsFlags::MS_PRIVATE);
        for memory in ["/etc", "/run"] {
            mount(Some("test"), memory, Some("tmpfs"), MsFlags::empty(), None::<&Path>).unwrap();
        }
        // As under systemd: mounts propagate unless that is prevented.
        remount(MsFlags::MS_SHARED);
        for dir in ["/run/nscd", "/run/systemd/resolve", PRIVATE, "/etc/netns/blue"] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write("/etc/hosts", "127.0.0.1 localhost\n").unwrap();
        fs::write("/etc/nsswitch.conf", "hosts: files resolve [!UNAVAIL=return] dns\n").unwrap();
        write_readable(&plan().resolv_conf, OURS.as_bytes()).unwrap();
        test();
    };
    std::thread::spawn(body).join().unwrap();
}

fn remount(propagation: MsFlags) {
    mount(None::<&Path>, "/", None::<&Path>, MsFlags::MS_REC | propagation, None::<&Path>).unwrap();
}

fn plan() -> MountPlan {
    let private = PathBuf::from(PRIVATE);
    MountPlan { resolv_conf: private.join("resolv.conf"), private, netns: None }
}

/// A thread in the target's namespaces that runs jobs.
struct Inside {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    missed: Vec<String>,
    namespace: OwnedFd,
}

impl Inside {
    fn new(plan: MountPlan) -> Self {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, made) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
            let started = Instant::now();
            let missed: Vec<String> = prepare(&plan).unwrap().iter().map(ToString::to_string).collect();
            eprintln!("prepare: {:?}", started.elapsed());
            let namespace: OwnedFd = fs::File::open("/proc/thread-self/ns/mnt").unwrap().into();
            ready.send((missed, namespace)).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let (missed, namespace) = made.recv().unwrap();
        Self { jobs, missed, namespace }
    }

    fn sees<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || done.send(job()).unwrap())).unwrap();
        result.recv().unwrap()
    }

    fn reads(&self, path: &'static str) -> String {
        self.sees(move || fs::read_to_string(path)).unwrap()
    }
}

/// Everything below a directory with its content, to verify that nothing changed.
fn snapshot(dir: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let shown = match fs::read_link(&path) {
            Ok(target) => format!("-> {}", target.display()),
            Err(_) if path.is_dir() => {
                found.extend(snapshot(path.to_str().unwrap()));
                "dir".to_owned()
            }
            Err(_) => fs::read_to_string(&path).unwrap_or_default(),
        };
        found.push((path, shown));
    }
    found.sort();
    found
}

fn replace(path: &str, text: &str) {
    fs::write("/etc/new", text).unwrap();
    fs::rename("/etc/new", path).unwrap();
}

#[test]
fn covers_a_plain_file_for_the_target_only() {
    as_host(|| {
        fs::write(RESOLV_CONF, "nameserver 127.0.0.53\n").unwrap();
        let (files, mounts) = (snapshot("/etc"), mountinfo::read().unwrap());
        let inside = Inside::new(plan());
        assert_eq!(inside.reads(RESOLV_CONF), OURS);
        assert_eq!(inside.reads("/etc/hosts"), "127.0.0.1 localhost\n");
        assert!(inside.missed.is_empty(), "{:?}", inside.missed);
        assert_eq!((snapshot("/etc"), mountinfo::read().unwrap()), (files, mounts));
    });
}

#[test]
fn follows_links_to_the_real_file() {
    as_host(|| {
        fs::write(STUB, "nameserver 127.0.0.53\n").unwrap();
        symlink("resolv.conf.link", RESOLV_CONF).unwrap();
        symlink("../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf.link").unwrap();
        let inside = Inside::new(plan());
        assert_eq!((inside.reads(RESOLV_CONF), inside.reads(STUB)), (OURS.to_owned(), OURS.to_owned()));
        assert_eq!(fs::read_to_string(STUB).unwrap(), "nameserver 127.0.0.53\n");
    });
}

#[test]
fn makes_a_file_where_the_host_has_none_and_the_host_stays_without() {
    for broken in [None, Some("/run/nowhere/resolv.conf"), Some("resolv.conf")] {
        as_host(move || {
            if let Some(target) = broken {
                symlink(target, RESOLV_CONF).unwrap();
            }
            fs::create_dir("/etc/submount").unwrap();
            mount(Some("test"), "/etc/submount", Some("tmpfs"), MsFlags::empty(), None::<&Path>).unwrap();
            fs::write("/etc/submount/file", "here").unwrap();
            let files = snapshot("/etc");
            let inside = Inside::new(plan());
            assert_eq!(inside.reads(RESOLV_CONF), OURS);
            assert_eq!(inside.reads("/etc/hosts"), "127.0.0.1 localhost\n");
            assert_eq!(inside.reads("/etc/submount/file"), "here");
            assert_eq!(inside.reads("/etc/nsswitch.conf"), "hosts: files dns\n");
            let refused = inside.sees(|| fs::write("/etc/motd", "x")).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "no silent loss");
            assert_eq!(snapshot("/etc"), files);
            fs::write(plan().resolv_conf, "rewritten").unwrap();
            assert_eq!(inside.reads(RESOLV_CONF), "rewritten");
        });
    }
}

#[test]
fn hides_the_sockets_of_name_services() {
    as_host(|| {
        fs::write(RESOLV_CONF, "").unwrap();
        let sockets = ["/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"];
        let _listening = sockets.map(|socket| UnixListener::bind(socket).unwrap());
        let inside = Inside::new(plan());
        for socket in sockets {
            UnixStream::connect(socket).unwrap();
            let error = inside.sees(move || UnixStream::connect(socket)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{socket}");
        }
        assert_eq!(inside.reads("/etc/nsswitch.conf"), "hosts: files dns\n");
    });
}

#[test]
fn mounts_the_files_of_a_named_namespace_over_those_of_etc() {
    as_host(|| {
        fs::write(RESOLV_CONF, "").unwrap();
        for (name, text) in [("resolv.conf", "theirs"), ("hosts", "their hosts"), ("absent", "x")] {
            fs::write(Path::new("/etc/netns/blue").join(name), text).unwrap();
        }
        let inside = Inside::new(MountPlan { netns: Some("blue".into()), ..plan() });
        assert_eq!((inside.reads(RESOLV_CONF), inside.reads("/etc/hosts")), ("theirs".into(), "their hosts".into()));
        assert_eq!(
            inside.missed,
            ["cannot use /etc/netns/blue/absent: No such file or directory (ENOENT); create /etc/absent"]
        );
        let other = Inside::new(MountPlan { netns: Some("green".into()), ..plan() });
        assert_eq!(other.reads(RESOLV_CONF), OURS);
    });
}

#[test]
fn sys_shows_the_new_namespace_and_keeps_its_submounts() {
    as_host(|| {
        fs::write(RESOLV_CONF, "").unwrap();
        let below = || -> Vec<_> {
            let sys = Path::new("/sys");
            let mounts = mountinfo::read()
                .unwrap()
                .into_iter()
                .filter(|mount| mount.point != sys && mount.point.starts_with(sys));
            let mut points: Vec<_> = mounts.map(|mount| (mount.point, mount.options, mount.file_system)).collect();
            points.sort();
            points
        };
        let ip = std::process::Command::new("ip").args(["link", "add", "nwhost0", "type", "veth"]).status();
        assert!(ip.unwrap().success());
        let sys = || mountinfo::at(&mountinfo::read().unwrap(), Path::new("/sys")).unwrap().clone();
        let inside = Inside::new(plan());
        let interfaces = inside
            .sees(|| fs::read_dir("/sys/class/net").unwrap().flatten().map(|e| e.file_name()).collect::<Vec<_>>());
        assert_eq!(interfaces, ["lo"]);
        assert_eq!(inside.sees(below), below());
        assert_eq!(inside.sees(sys).options, sys().options);
    });
}

/// Waits until the keeper has mounted something again.
fn kept(keeper: &mut Keeper) -> KeptMounts {
    let started = Instant::now();
    let mut sum = KeptMounts::default();
    while sum.remounted == 0 && started.elapsed() < Duration::from_secs(60) {
        let mut fds = [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(100u8)).unwrap();
        let now = keeper.check().unwrap();
        sum = KeptMounts { remounted: now.remounted, host_changed: sum.host_changed | now.host_changed };
    }
    sum
}

fn keeping() -> (Inside, Keeper) {
    let mut keeper = Keeper::watch(&plan()).unwrap();
    let inside = Inside::new(plan());
    keeper.enter(inside.namespace.try_clone().unwrap()).unwrap();
    assert_eq!(keeper.check().unwrap(), KeptMounts::default());
    (inside, keeper)
}

#[test]
fn mounts_again_after_the_host_replaced_a_file_by_rename() {
    as_host(|| {
        fs::write(RESOLV_CONF, "nameserver 127.0.0.53\n").unwrap();
        let (inside, mut keeper) = keeping();
        for round in 0..3 {
            replace(RESOLV_CONF, "nameserver 127.0.0.54\n");
            assert_eq!(inside.reads(RESOLV_CONF), "nameserver 127.0.0.54\n", "the mount is gone: round {round}");
            // The event is there already, so no time has to pass until the keeper finds it.
            assert_eq!(keeper.check().unwrap(), KeptMounts { remounted: 1, host_changed: true });
            assert_eq!(inside.reads(RESOLV_CONF), OURS);
        }
        replace("/etc/nsswitch.conf", "hosts: resolve\n");
        assert_eq!(kept(&mut keeper).remounted, 1);
        assert_eq!(inside.reads("/etc/nsswitch.conf"), "hosts: dns\n");
        fs::write("/etc/unrelated", "").unwrap();
        assert_eq!(keeper.check().unwrap(), KeptMounts::default());
        fs::write(RESOLV_CONF, "search a.example\n").unwrap();
        assert_eq!(keeper.check().unwrap(), KeptMounts { remounted: 0, host_changed: true });
        assert_eq!(fs::read_to_string(RESOLV_CONF).unwrap(), "search a.example\n");
    });
}

#[test]
fn follows_a_link_whose_target_changes() {
    as_host(|| {
        fs::write(STUB, "nameserver 127.0.0.53\n").unwrap();
        symlink(STUB, RESOLV_CONF).unwrap();
        let (inside, mut keeper) = keeping();
        fs::write("/run/other", "nameserver 198.51.100.9\n").unwrap();
        symlink("../run/other", "/etc/link").unwrap();
        fs::rename("/etc/link", RESOLV_CONF).unwrap();
        assert_eq!(kept(&mut keeper).remounted, 1);
        assert_eq!(inside.reads(RESOLV_CONF), OURS);
        // The new target's directory is watched now.
        fs::write("/run/new", "nameserver 198.51.100.10\n").unwrap();
        fs::rename("/run/new", "/run/other").unwrap();
        assert_eq!(kept(&mut keeper).remounted, 1);
        assert_eq!(inside.reads(RESOLV_CONF), OURS);
    });
}

#[test]
fn waits_for_a_removed_file_and_then_makes_one() {
    as_host(|| {
        fs::write(RESOLV_CONF, "nameserver 127.0.0.53\n").unwrap();
        let (inside, mut keeper) = keeping();
        fs::remove_file(RESOLV_CONF).unwrap();
        assert_eq!(keeper.check().unwrap(), KeptMounts { remounted: 0, host_changed: true });
        fs::write(RESOLV_CONF, "nameserver 127.0.0.54\n").unwrap();
        assert_eq!(kept(&mut keeper).remounted, 1);
        assert!(inside.sees(|| fs::write("/etc/motd", "x")).is_ok(), "no overlay was needed");
        fs::remove_file(RESOLV_CONF).unwrap();
        keeper.missing_timeout = Duration::MAX;
        assert_eq!(keeper.check().unwrap(), KeptMounts { remounted: 0, host_changed: true });
        assert_eq!(keeper.check().unwrap(), KeptMounts::default());
        keeper.missing_timeout = Duration::ZERO;
        assert!(keeper.check().unwrap().remounted >= 1);
        assert_eq!(inside.reads(RESOLV_CONF), OURS);
        assert!(!Path::new(RESOLV_CONF).exists(), "the host stays without");
    });
}

#[test]
fn hides_a_socket_that_is_created_later() {
    as_host(|| {
        fs::write(RESOLV_CONF, "").unwrap();
        fs::remove_dir("/run/nscd").unwrap();
        let (inside, mut keeper) = keeping();
        for _restart in 0..2 {
            let _ = fs::remove_dir_all("/run/nscd");
            fs::create_dir("/run/nscd").unwrap();
            let _nscd = UnixListener::bind("/run/nscd/socket").unwrap();
            assert_eq!(kept(&mut keeper).remounted, 1);
            let refused = inside.sees(|| UnixStream::connect("/run/nscd/socket")).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn never_mounts_in_the_hosts_namespace() {
    as_host(|| {
        fs::write(RESOLV_CONF, "").unwrap();
        let mut keeper = Keeper::watch(&plan()).unwrap();
        let own = fs::File::open("/proc/thread-self/ns/mnt").unwrap();
        let error = keeper.enter(own.into()).unwrap_err();
        assert_eq!(error.to_string(), "cannot keep the command's mounts: its mount namespace is the host's");
    });
}

#[test]
fn the_targets_user_may_read_it_with_any_umask() {
    as_host(|| {
        fs::write(RESOLV_CONF, "").unwrap();
        fs::set_permissions("/run", std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let inside = Inside::new(plan());
        let read = inside.sees(|| {
            // SAFETY: the raw call changes the calling thread's user only, unlike libc's wrapper,
            // and takes plain numbers.
            let result = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
            assert_eq!(result, 0);
            let mut text = String::new();
            fs::File::open(RESOLV_CONF).and_then(|mut file| file.read_to_string(&mut text)).map(|_| text)
        });
        assert_eq!(read.unwrap(), OURS);
    });
}
