//! A network namespace of a thread's own, with two ends of a veth pair: the target's in a second namespace.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns, unshare};

/// Runs `test` on a thread in a fresh "host" namespace, with the "target" namespace beside it. Both go when the files and
/// the thread do. Prints why and returns when there are no rights to.
pub(super) fn with_link(test: impl FnOnce(&Link) + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return;
    }
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let link = Link::new().expect("a link between namespaces");
                test(&link);
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

pub(super) struct Link {
    pub target: File,
    pub host_ifindex: u32,
    pub target_ifindex: u32,
}

impl Link {
    fn new() -> io::Result<Self> {
        let (host, target) = (fresh_namespace()?, fresh_namespace()?);
        setns(&host, CloneFlags::CLONE_NEWNET)?;
        ip("link set lo up");
        let name = unique("t");
        ip(&format!("link add h0 type veth peer name {name}"));
        let holder = Holder::new(&target)?;
        ip(&format!("link set {name} netns {}", holder.pid()));
        ip("addr add 198.51.100.1/24 dev h0");
        ip("addr add 2001:db8::1/64 dev h0 nodad");
        let host_ifindex = ifindex("h0")?;
        setns(&target, CloneFlags::CLONE_NEWNET)?;
        ip(&format!("link set {name} name t0"));
        ip("link set lo up");
        ip("addr add 198.51.100.2/24 dev t0");
        ip("addr add 2001:db8::2/64 dev t0 nodad");
        ip("link set t0 up");
        let target_ifindex = ifindex("t0")?;
        setns(&host, CloneFlags::CLONE_NEWNET)?;
        drop(holder);
        Ok(Self { target, host_ifindex, target_ifindex })
    }

    /// Until then nothing passes: what is attached before sees the first packet.
    pub(super) fn up(&self) {
        ip("link set h0 up");
        wait_until_up("h0");
        self.in_target(|| wait_until_up("t0"));
    }

    /// Runs on a thread in the target's namespace.
    pub(super) fn in_target<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                setns(self.target.as_fd(), CloneFlags::CLONE_NEWNET).expect("enter");
                run()
            };
            scope.spawn(inside).join().expect("no panic")
        })
    }

    /// The host's end goes down; then what it counted: (received from the target, sent to it), packets and bytes.
    ///
    /// The kernel stops talking first. A multicast report that meets the interface while it goes down passes the classifier and falls into
    /// a queue that discards; Linux counts it as dropped since 6.11, before nowhere.
    pub(super) fn settle(&self) -> [(u64, u64); 2] {
        let _none_there = std::fs::write("/proc/sys/net/ipv6/conf/h0/disable_ipv6", "1");
        ip("link set h0 down");
        Self::counters("h0")
    }

    /// What an interface of the thread's namespace received and sent, packets and bytes. From `ip -s`, since /sys shows the namespace it was mounted in.
    pub(super) fn counters(interface: &str) -> [(u64, u64); 2] {
        let output = Command::new("ip").args(["-s", "-j", "link", "show", interface]).output().expect("ip");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        ["rx", "tx"].map(|side| {
            let read = |what: &str| value[0]["stats64"][side][what].as_u64().expect("a number");
            (read("packets"), read("bytes"))
        })
    }
}

fn fresh_namespace() -> io::Result<File> {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    })
    .join()
    .expect("no panic")
}

/// A process in a namespace, for `ip link set … netns PID`.
struct Holder(std::process::Child);

impl Holder {
    fn new(netns: &File) -> io::Result<Self> {
        let netns = netns.try_clone()?;
        let child = std::thread::spawn(move || {
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            Command::new("sleep").arg("60").spawn()
        });
        child.join().expect("no panic").map(Self)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(super) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The kernel notices a carrier by a work queue; what is sent before is dropped.
fn wait_until_up(name: &str) {
    for _ in 0..200 {
        let output = Command::new("ip").args(["link", "show", "dev", name]).output().expect("ip");
        if String::from_utf8_lossy(&output.stdout).contains("state UP") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{name} does not come up");
}

fn ifindex(name: &str) -> io::Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(io::Error::from)
}

fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}x{}", std::process::id() % 100_000, NEXT.fetch_add(1, Ordering::Relaxed))
}
