//! Two network namespaces for one thread, connected by a veth pair: one plays the host, the other
//! the target.

use std::fs::File;
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

/// Runs `test` on a thread in a new "host" namespace that is linked to a new "target" namespace.
/// Both are removed when the files and the thread are gone. Without root, prints that the test is
/// skipped.
pub(in crate::meter::kernel) fn with_link(test: impl FnOnce(&TestLink) + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return;
    }
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let link = TestLink::new().expect("a link between namespaces");
                test(&link);
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

pub(in crate::meter::kernel) struct TestLink {
    pub target: File,
    pub host_ifindex: u32,
    pub target_ifindex: u32,
}

impl TestLink {
    fn new() -> io::Result<Self> {
        let (host, target) = (new_namespace()?, new_namespace()?);
        setns(&host, CloneFlags::CLONE_NEWNET)?;
        ip("link set lo up");
        let name = unique("t");
        ip(&format!("link add h0 type veth peer name {name}"));
        let holder = NamespaceHolder::new(&target)?;
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

    /// Brings the link up. No packet passes before, so programs that are attached before observe
    /// the first packet.
    pub(in crate::meter::kernel) fn up(&self) {
        ip("link set h0 up");
        wait_until_up("h0");
        self.in_target(|| wait_until_up("t0"));
    }

    /// Runs a function on a thread in the target's namespace.
    pub(in crate::meter::kernel) fn in_target<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = || {
                setns(self.target.as_fd(), CloneFlags::CLONE_NEWNET).expect("enter");
                run()
            };
            scope.spawn(inside).join().expect("no panic")
        })
    }

    /// Takes the host's end down and returns its counters: (received from the target, sent to it),
    /// packets and bytes.
    ///
    /// IPv6 is disabled first. A multicast report that is sent while the interface goes down passes
    /// the classifier and is then discarded by a queue; Linux counts it as dropped since 6.11, and
    /// not at all before.
    pub(in crate::meter::kernel) fn settle(&self) -> [(u64, u64); 2] {
        let _no_ipv6 = std::fs::write("/proc/sys/net/ipv6/conf/h0/disable_ipv6", "1");
        ip("link set h0 down");
        Self::counters("h0")
    }

    /// Packets and bytes that an interface in the thread's namespace has received and sent. Read by
    /// `ip -s`, because /sys shows the namespace in which it was mounted.
    pub(in crate::meter::kernel) fn counters(interface: &str) -> [(u64, u64); 2] {
        let output = Command::new("ip").args(["-s", "-j", "link", "show", interface]).output().expect("ip");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        ["rx", "tx"].map(|side| {
            let read = |what: &str| value[0]["stats64"][side][what].as_u64().expect("a number");
            (read("packets"), read("bytes"))
        })
    }
}

fn new_namespace() -> io::Result<File> {
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    })
    .join()
    .expect("no panic")
}

/// A process in a namespace, for `ip link set … netns PID`.
struct NamespaceHolder(std::process::Child);

impl NamespaceHolder {
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

impl Drop for NamespaceHolder {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(in crate::meter::kernel) fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A socket on an IPv4 address and port that a test uses more than once. A process that another
/// test starts may have a copy of the earlier socket for a moment, until it executes its program.
pub(in crate::meter::kernel) fn bind_again(address: &str) -> UdpSocket {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
    let socket =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).expect("a datagram socket");
    setsockopt(&socket, sockopt::ReuseAddr, &true).expect("the option is set");
    let address: SocketAddrV4 = address.parse().expect("an IPv4 address with a port");
    bind(socket.as_raw_fd(), &SockaddrIn::from(address)).expect("bound");
    socket.into()
}

/// Waits for the carrier, which the kernel detects in a work queue; packets sent before are
/// dropped.
fn wait_until_up(name: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let link = || Command::new("ip").args(["link", "show", "dev", name]).output().expect("ip").stdout;
    while !String::from_utf8_lossy(&link()).contains("state UP") {
        assert!(Instant::now() < deadline, "{name} does not come up");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ifindex(name: &str) -> io::Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(io::Error::from)
}

fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}x{}", std::process::id() % 100_000, NEXT.fetch_add(1, Ordering::Relaxed))
}
