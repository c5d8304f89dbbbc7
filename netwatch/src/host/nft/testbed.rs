//! For tests: network namespaces, each with a thread in it. Removed on drop.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::host::NETWATCH_GROUP;
use crate::undo::RunId;

type Job = Box<dyn FnOnce() + Send>;

/// Index of the link in the thread's namespace, or one that no interface has.
pub fn link_index() -> u32 {
    let interfaces = nix::net::if_::if_nameindex().expect("the interfaces");
    let is_link = |interface: &&nix::net::if_::Interface| interface.name().to_bytes().starts_with(b"nw");
    interfaces.iter().find(is_link).map_or(u32::MAX, nix::net::if_::Interface::index)
}

/// Runs jobs in a fresh network namespace.
pub struct TestNamespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl TestNamespace {
    /// `None` without root; then it prints that the test is skipped.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root to make network namespaces");
            return None;
        }
        let (jobs, queue) = channel::<Job>();
        let (ready, started) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(nix::unistd::gettid().as_raw()).expect("the test waits");
            queue.iter().for_each(|job| job());
        });
        let tid = started.recv().expect("the thread answers");
        let namespace = Self { jobs: Some(jobs), thread: Some(thread), tid };
        // Duplicate address detection would block IPv6 for two seconds.
        namespace.sh("ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad");
        Some(namespace)
    }

    /// Runs a closure inside and returns what it returns; a panic inside is a panic here.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = done.send(outcome);
        };
        self.jobs.as_ref().expect("alive").send(Box::new(job)).expect("the thread lives");
        result.recv().expect("an answer").unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The id to move interfaces to it with `ip link set … netns`.
    pub fn id(&self) -> i32 {
        self.tid
    }

    /// The output of a shell script, which must succeed.
    pub fn sh(&self, script: &str) -> String {
        let (success, output) = self.try_sh(script);
        assert!(success, "{script}\n{output}");
        output
    }

    /// Waits until a new link works, 60 s at most: the kernel takes up to a second until neighbor
    /// discovery uses it.
    pub fn until_answer(&self, address: &str) {
        self.sh(&format!("for i in $(seq 1200); do ping -n -c1 -W0.05 {address} && exit; done; exit 1"));
    }

    /// Waits until no table is left, 60 s at most. A table goes with the last descriptor of its
    /// socket, and a process that another test just forked has one until its execve.
    pub fn until_no_table(&self) {
        self.sh("for i in $(seq 1200); do [ -z \"$(nft list ruleset)\" ] && exit; sleep 0.05; done; exit 1");
    }

    /// Whether a shell script succeeds, and what it prints.
    pub fn try_sh(&self, script: &str) -> (bool, String) {
        let script = script.to_owned();
        self.run(move || {
            let output = Command::new("sh").arg("-ec").arg(&script).output().expect("a shell");
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        })
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `inet` – `host` – `target`: the host has an uplink with default routes, the target is behind the
/// host's end of the link of a run. Forwarding is off and no rule is installed.
pub struct Internet {
    /// Remote servers and clients: 198.51.100.1, 2001:db8:1::1. Has a route to the target's
    /// subnets, as an attacker on the local network could.
    pub inet: TestNamespace,
    /// The machine that netwatch runs on: eth0 with 198.51.100.2, 2001:db8:1::2.
    pub host: TestNamespace,
    /// Behind `INTERFACE`: 10.250.0.2, 2001:db8:2::2; the gateway is .1 and ::1.
    pub target: TestNamespace,
    /// The run.
    pub run: RunId,
}

impl Internet {
    /// `None` without root.
    pub fn new() -> Option<Self> {
        let run = RunId::random().expect("random numbers");
        let internet =
            Self { inet: TestNamespace::new()?, host: TestNamespace::new()?, target: TestNamespace::new()?, run };
        let (inet, target) = (internet.inet.id(), internet.target.id());
        let nw = internet.interface();
        internet.host.sh(&format!(
            "ip link add eth0 type veth peer name eth0 netns {inet}
             ip link add {nw} group {NETWATCH_GROUP} type veth peer name eth0 netns {target}
             ip addr add 198.51.100.2/24 dev eth0
             ip addr add 2001:db8:1::2/64 dev eth0 nodad
             ip addr add 10.250.0.1/30 dev {nw}
             ip addr add 2001:db8:2::1/64 dev {nw} nodad
             ip link set eth0 up; ip link set {nw} up
             ip route add default via 198.51.100.1"
        ));
        internet.inet.sh("ip addr add 198.51.100.1/24 dev eth0; ip addr add 2001:db8:1::1/64 dev eth0 nodad
             ip link set eth0 up
             ip route add 10.250.0.0/30 via 198.51.100.2; ip -6 route add 2001:db8:2::/64 via 2001:db8:1::2");
        internet.target.sh("ip addr add 10.250.0.2/30 dev eth0; ip addr add 2001:db8:2::2/64 dev eth0 nodad
             ip link set eth0 up
             ip route add default via 10.250.0.1; ip -6 route add default via 2001:db8:2::1");
        internet.host.sh("ip -6 route add default via 2001:db8:1::1");
        internet.host.until_answer("2001:db8:1::1");
        internet.target.until_answer("2001:db8:2::1");
        Some(internet)
    }

    /// The host-side interface.
    pub fn interface(&self) -> String {
        self.run.interface()
    }

    /// Switches forwarding on.
    pub fn forward(&self) {
        self.host
            .sh("cd /proc/sys/net; for f in ipv4/conf/*/forwarding ipv6/conf/*/force_forwarding; do echo 1 >$f; done");
    }
}

/// Bounds the wait for an answer that is expected.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until a condition holds, at most [`WAIT_TIMEOUT`].
pub fn until(holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < WAIT_TIMEOUT, "the condition does not hold");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How long no answer may arrive to a question that has to be dropped. Nothing to wait for follows
/// a dropped packet, and the rules that drop it drop a marker after it too. A busy machine can
/// make the check weaker, and never makes it fail.
const SILENCE: Duration = Duration::from_millis(400);

/// A UDP server that answers each datagram with the address it came from, until it is dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Serves at this address in the namespace.
    pub fn start(namespace: &TestNamespace, at: &str) -> Self {
        let at = at.to_owned();
        let socket = namespace.run(move || UdpSocket::bind(at).expect("bind"));
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                    let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The source address that an [`Echo`] at `to` received. `None` if the question was rejected, or if
/// no answer came within [`WAIT_TIMEOUT`].
pub fn ask(namespace: &TestNamespace, to: &str) -> Option<String> {
    ask_within(namespace, to, WAIT_TIMEOUT)
}

/// Whether a question to an [`Echo`] at `to` is rejected or dropped.
pub fn is_unanswered(namespace: &TestNamespace, to: &str) -> bool {
    ask_within(namespace, to, SILENCE).is_none()
}

fn ask_within(namespace: &TestNamespace, to: &str, timeout: Duration) -> Option<String> {
    let to: SocketAddr = to.parse().expect("an address");
    namespace.run(move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("bind");
        socket.set_read_timeout(Some(timeout)).expect("a timeout");
        socket.connect(to).ok()?;
        socket.send(b"who am I").ok()?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer).ok()?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    })
}
