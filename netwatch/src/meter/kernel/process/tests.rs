//! Tests of the process tracer on the running kernel, with real programs in a cgroup that the test
//! creates.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::flow::{Protocol, TransportAddress};
use crate::process::{CallName, CallTarget, ProcessAction, SocketOperation};

pub(in crate::meter) const ALL: ProcessTracerConfig = ProcessTracerConfig { cmdline: true, failed_calls: true };

/// A cgroup for one test. Removed on drop.
pub(in crate::meter) struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: loading BPF programs needs root");
            return None;
        }
        let name = format!("process-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = crate::host::cgroup::own().and_then(|parent| {
            let path = parent.path.join(name);
            fs::create_dir(&path).map(|()| Self(path)).map_err(|error| error.to_string())
        });
        made.inspect_err(|why| println!("skipped: no cgroup: {why}")).ok()
    }

    /// Runs a command in the cgroup until it exits. Returns its pid.
    pub(in crate::meter) fn run(&self, program: &str, arguments: &[&str]) -> u32 {
        let mut child = self.command(program, arguments).spawn().expect("runs");
        child.wait().expect("ends");
        child.id()
    }

    /// A command that will run in the cgroup.
    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let procs = self.0.join("cgroup.procs");
        let mut command = Command::new(program);
        command.args(arguments);
        // SAFETY: a write to a file, between fork and exec of a child.
        unsafe { command.pre_exec(move || fs::write(&procs, "0")) };
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let started = Instant::now();
        while fs::remove_dir(&self.0).is_err() && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A tracer that is attached to a new cgroup.
pub(in crate::meter) fn attached(config: ProcessTracerConfig) -> Option<(ProcessTracer, Cgroup)> {
    let cgroup = Cgroup::new()?;
    let mut tracer = ProcessTracer::load(config).expect("the programs load");
    tracer.attach(File::open(&cgroup.0).expect("there").as_fd()).expect("attached");
    tracer.rejected().for_each(|(name, error)| println!("not loaded: {name}: {error}"));
    Some((tracer, cgroup))
}

pub(in crate::meter) fn events(tracer: &mut ProcessTracer) -> Vec<ProcessEvent> {
    let mut events = Vec::new();
    tracer.poll(&mut |event| events.push(event));
    events
}

fn bash(cgroup: &Cgroup, script: &str) -> u32 {
    cgroup.run("bash", &["-c", script])
}

#[test]
fn an_exec_is_reported_with_its_arguments_and_parent() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    let long = "x".repeat(2000);
    let pid = cgroup.run("sh", &["-c", "/bin/true a 'b c'; exit 0", &long]);
    let events = events(&mut tracer);
    let execs: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.action {
            ProcessAction::Exec(origin, image) => Some((event, origin, image)),
            _ => None,
        })
        .collect();
    let [(shell, origin, image), (inner, inner_origin, inner_image)] = &execs[..] else { panic!("{events:#?}") };
    assert_eq!((shell.pid, origin.ppid), (pid, std::process::id()));
    assert!(image.exe.as_ref().is_some_and(|exe| exe.ends_with("/sh")), "{image:?}");
    assert!(image.cmdline_cut && image.cmdline.as_ref().is_some_and(|all| all[1] == "-c"), "{image:?}");
    assert_eq!((inner.comm.text().as_str(), inner_origin.ppid), ("true", pid));
    assert_eq!(inner_image.cmdline.as_ref().expect("read"), &["/bin/true", "a", "b c"]);
    assert!(!inner_image.cmdline_cut);
    assert!(inner_origin.start_ns >= origin.start_ns && inner.time_ns > inner_origin.start_ns);
    let forked = events
        .iter()
        .any(|event| event.pid == inner.pid && matches!(event.action, ProcessAction::Fork(from) if from.ppid == pid));
    assert!(forked, "{events:#?}");
}

#[test]
fn arguments_are_omitted_if_disabled() {
    let Some((mut tracer, cgroup)) = attached(ProcessTracerConfig { cmdline: false, ..ALL }) else { return };
    cgroup.run("true", &["secret"]);
    let events = events(&mut tracer);
    let exec = events
        .iter()
        .find_map(|event| if let ProcessAction::Exec(_, image) = &event.action { Some(image) } else { None });
    let image = exec.expect("reported");
    assert_eq!((&image.cmdline, image.cmdline_cut), (&None, false), "{image:?}");
    assert!(!format!("{events:?}").contains("secret"));
}

/// Socket operations: process id, operation, cookie and address.
fn operations(events: &[ProcessEvent]) -> Vec<(u32, SocketOperation, u64, String)> {
    let operation = |event: &ProcessEvent| match event.action {
        ProcessAction::SocketUse(operation, socket) => {
            let address = socket.address.map(|address| address.to_string()).unwrap_or_default();
            Some((event.pid, operation, socket.cookie, address))
        }
        _ => None,
    };
    events.iter().filter_map(operation).collect()
}

#[test]
fn a_socket_is_traced_from_its_creation_to_its_use_by_a_child() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let pid = bash(&cgroup, &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; (echo hello >&3); true"));
    let operations = operations(&events(&mut tracer));
    let (made, made_operation, cookie, _) = &operations[0];
    assert_eq!((*made, *made_operation), (pid, SocketOperation::Created), "{operations:?}");
    let of_socket: Vec<_> = operations.iter().filter(|operation| operation.2 == *cookie).collect();
    assert!(of_socket.iter().any(|operation| operation.0 == pid
        && operation.1 == SocketOperation::Connect
        && operation.3 == format!("127.0.0.1:{port}")));
    if super::super::tests::is_linux(6, 3, "the tracepoint sock_send_length") {
        assert!(
            of_socket.iter().any(|operation| operation.0 != pid && operation.1 == SocketOperation::Used),
            "{operations:?}"
        );
    }
}

/// The record of a closed socket has both addresses, in case earlier records of the socket were
/// lost.
#[test]
fn a_closed_socket_is_reported_with_its_addresses() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    let script = "import socket\n\
        for host, to in (('127.0.0.1', '127.0.0.1'), ('::1', '::1'), ('127.0.0.1', '::ffff:127.0.0.1')):\n\
        \x20 server = socket.create_server((host, 0), family=socket.AF_INET6 if ':' in host else socket.AF_INET)\n\
        \x20 one = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET)\n\
        \x20 one.connect((to, server.getsockname()[1])); other, _ = server.accept()\n\
        \x20 print(host, one.getsockname()[1], one.getpeername()[1])\n\
        \x20 one.close(); other.close(); server.close()\n\
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n";
    let folder = tempfile::tempdir().expect("made");
    let file = folder.path().join("ends");
    let pid = cgroup.run("sh", &["-c", "exec python3 -c \"$0\" > \"$1\"", script, &file.display().to_string()]);
    let events = events(&mut tracer);
    let closed = events.iter().filter_map(|event| match event.action {
        ProcessAction::ClosedSocket(closed) => Some((event.pid, closed.protocol, closed.local, closed.remote)),
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    // Both ends and the listener of three connections. The last socket was not used.
    assert_eq!((closed.len(), closed.iter().all(|one| one.0 == pid)), (9, true), "{closed:#?}");
    for line in fs::read_to_string(file).expect("written").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let end = |port: &str| TransportAddress { addr: words[0].parse().unwrap(), port: port.parse().unwrap() };
        let (client, server) = (end(words[1]), end(words[2]));
        for (local, remote) in [(client, server), (server, client)] {
            let expected = (pid, Some(Protocol::TCP), Some(local), Some(remote));
            assert!(closed.contains(&expected), "{expected:?} of {closed:#?}");
        }
    }
    let listening = |one: &&(u32, Option<Protocol>, Option<TransportAddress>, Option<TransportAddress>)| {
        one.2.is_some() && one.3.is_none()
    };
    assert_eq!(closed.iter().filter(listening).count(), 3, "{closed:#?}");
}

/// The first thread of a process may exit before others.
#[test]
fn the_exit_of_a_process_is_reported_and_not_that_of_its_first_thread() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    // The other threads wait until the first one is a zombie, and write the time.
    let script = "import ctypes, os, sys, threading, time\n\
        def late():\n\
        \x20 while ') Z ' not in open(f'/proc/self/task/{os.getpid()}/stat').read(): time.sleep(0.001)\n\
        \x20 open(sys.argv[1], 'a').write(f'{time.clock_gettime_ns(time.CLOCK_BOOTTIME)}\\n')\n\
        \x20 ctypes.CDLL(None).syscall(231, 0)\n\
        for _ in range(3): threading.Thread(target=late, daemon=True).start()\n\
        ctypes.CDLL(None).syscall(60, 0)\n";
    let folder = tempfile::tempdir().expect("made");
    let file = folder.path().join("times");
    let pid = cgroup.run("python3", &["-c", script, &file.display().to_string()]);
    let events = events(&mut tracer);
    let ends: Vec<_> = events.iter().filter(|event| event.pid == pid && event.action == ProcessAction::Exit).collect();
    // Threads that exit at the same moment may each be reported as the last.
    assert!((1..=4).contains(&ends.len()), "{events:#?}");
    let times = fs::read_to_string(file).expect("written");
    let first: u64 = times.lines().filter_map(|time| time.parse().ok()).min().expect("one thread at least");
    assert!(ends[0].start_ns != 0 && ends[0].time_ns > first, "{:?} after {first}", ends[0]);
}

/// A socket that stays open across an exec is used by another program afterwards.
#[test]
fn the_program_after_an_exec_is_reported_as_another_user() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    let script = "import os, socket, sys\n\
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        one.bind(('127.0.0.1', 0)); one.sendto(b'x', one.getsockname()); os.set_inheritable(one.fileno(), True)\n\
        os.execv(sys.executable, [sys.executable, '-c', 'import socket, sys\\n\
        one = socket.socket(fileno=int(sys.argv[1])); one.sendto(b\"x\", one.getsockname())', str(one.fileno())])\n";
    let pid = cgroup.run("python3", &["-c", script]);
    let events = events(&mut tracer);
    let of: Vec<&ProcessEvent> = events.iter().filter(|event| event.pid == pid).collect();
    let used = of
        .iter()
        .position(|event| matches!(event.action, ProcessAction::SocketUse(SocketOperation::Used, _)))
        .expect("reported");
    // The interpreter may itself be started by another program.
    let execs: Vec<usize> = (0..of.len()).filter(|at| matches!(of[*at].action, ProcessAction::Exec(..))).collect();
    let [.., before, after] = execs[..] else { panic!("{of:#?}") };
    assert!(after < used, "{of:#?}");
    assert_eq!(of[used].program, of[after].program);
    assert_ne!(of[before].program, of[after].program);
    assert!(of[used].start_ns != 0 && of.iter().all(|event| event.start_ns == of[0].start_ns), "{of:#?}");
}

#[test]
fn processes_outside_the_cgroup_are_not_reported() {
    let Some((mut tracer, _cgroup)) = attached(ALL) else { return };
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.send_to(b"x", socket.local_addr().expect("bound")).expect("sent");
    Command::new("true").status().expect("runs");
    let _refused = std::os::unix::net::UnixStream::connect("/no/such/socket");
    assert_eq!(events(&mut tracer), []);
}

#[test]
fn local_sockets_are_reported_by_path() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    if !super::super::tests::is_linux(6, 7, "programs for unix sockets") {
        return;
    }
    let folder = tempfile::tempdir().expect("made");
    let path = folder.path().join("x.sock");
    let _listener = UnixListener::bind(&path).expect("bound");
    let script = format!("import socket; socket.socket(socket.AF_UNIX).connect('{}')", path.display());
    let pid = cgroup.run("python3", &["-c", &script]);
    let events = events(&mut tracer);
    let found = events
        .iter()
        .find(|event| event.pid == pid && event.action == ProcessAction::LocalSocket(path.display().to_string()));
    assert!(found.is_some(), "{events:#?}");
}

#[test]
fn failed_calls_are_reported_with_their_errno() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    let script = "import socket\n\
        for family, address in ((socket.AF_UNIX, '/no/such/socket'), (socket.AF_INET, ('240.0.0.1', 80))):\n\
        \x20 try: socket.socket(family).connect(address)\n\
        \x20 except OSError: pass\n\
        try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('255.255.255.255', 9))\n\
        except OSError: pass\n";
    let pid = cgroup.run("unshare", &["-n", "python3", "-c", script]);
    let events = events(&mut tracer);
    let calls = events.iter().filter(|event| event.pid == pid).filter_map(|event| match &event.action {
        ProcessAction::FailedCall(call) if call.target != CallTarget::Other => {
            Some((call.name, call.errno, call.target.clone()))
        }
        _ => None,
    });
    let calls: Vec<_> = calls.collect();
    assert!(
        calls.contains(&(CallName::Connect, libc::ENOENT, CallTarget::LocalSocket("/no/such/socket".into()))),
        "{calls:?}"
    );
    let unreachable = (CallName::Connect, libc::ENETUNREACH, CallTarget::Address("240.0.0.1:80".parse().unwrap()));
    assert!(calls.contains(&unreachable), "{calls:?}");
    let refused = calls.iter().find(|call| call.0 == CallName::Send);
    assert!(
        refused.is_some_and(|call| call.2 == CallTarget::Address("255.255.255.255:9".parse().unwrap())),
        "{calls:?}"
    );
    if super::super::tests::is_linux(6, 3, "the tracepoint sock_send_length") {
        let not_sent = operations(&events).into_iter().any(|operation| {
            matches!(operation.1, SocketOperation::SendFailed(_)) && operation.3 == "255.255.255.255:9"
        });
        assert!(not_sent, "{events:#?}");
    }
}

/// Records that find no room are counted; the others are reported.
#[test]
fn a_full_ring_counts_its_losses() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    let script = "import socket\n\
        for _ in range(20000): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 0))";
    cgroup.run("python3", &["-c", script]);
    let ProcessLosses { events: lost, sockets, .. } = tracer.lost().expect("readable");
    let reported = operations(&events(&mut tracer)).len() as u64;
    assert!(lost > 0 && reported > 1000, "{lost} lost, {reported} reported");
    assert!(reported + lost >= 20_000 && sockets == 0, "{reported} reported, {lost} lost, {sockets} sockets lost");
}

/// Two processes that use one socket alternately.
#[test]
fn user_changes_of_a_socket_are_reported_up_to_a_limit() {
    let Some((mut tracer, cgroup)) = attached(ALL) else { return };
    if !super::super::tests::is_linux(6, 3, "the tracepoint sock_send_length") {
        return;
    }
    let script = "import os, socket\n\
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.bind(('127.0.0.1', 0))\n\
        ours, theirs = os.pipe(), os.pipe()\n\
        child = os.fork() == 0\n\
        for _ in range(1000):\n\
        \x20 if child: os.read(ours[0], 1)\n\
        \x20 one.sendto(b'x', one.getsockname()); one.recv(1)\n\
        \x20 os.write((theirs if child else ours)[1], b'x')\n\
        \x20 if not child: os.read(theirs[0], 1)\n\
        if not child: os.wait()\n";
    cgroup.run("python3", &["-c", script]);
    let operations = operations(&events(&mut tracer));
    let mut users: Vec<u32> = operations
        .iter()
        .filter(|operation| operation.1 == SocketOperation::Used)
        .map(|operation| operation.0)
        .collect();
    assert_eq!(users.len(), netwatch_common::process::MAX_REPORTS_PER_SOCKET as usize, "{operations:?}");
    users.sort_unstable();
    users.dedup();
    assert_eq!((users.len(), tracer.lost().expect("readable")), (2, ProcessLosses::default()));
}

/// A non-blocking TCP connection with a full queue, and datagrams to an unreachable destination.
#[test]
fn messages_that_fail_do_not_fill_the_ring() {
    let Some((mut tracer, cgroup)) = attached(ProcessTracerConfig { failed_calls: false, ..ALL }) else { return };
    if !super::super::tests::is_linux(6, 3, "the tracepoint sock_send_length") {
        return;
    }
    let script = "import socket\n\
        def often(one, call):\n\
        \x20 one.setblocking(False)\n\
        \x20 for _ in range(20000):\n\
        \x20   try: call(one)\n\
        \x20   except OSError: pass\n\
        server = socket.create_server(('127.0.0.1', 0))\n\
        often(socket.create_connection(server.getsockname()), lambda one: one.send(b'x' * 65536))\n\
        often(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), lambda one: one.sendto(b'x', ('255.255.255.255', 9)))\n";
    cgroup.run("python3", &["-c", script]);
    let lost = tracer.lost().expect("readable");
    let operations = operations(&events(&mut tracer));
    let failed =
        operations.iter().filter(|operation| matches!(operation.1, SocketOperation::SendFailed(_))).count() as u64;
    assert_eq!(failed, netwatch_common::process::MAX_REPORTS_PER_SOCKET as u64, "only of the datagrams");
    assert_eq!(
        lost,
        ProcessLosses { beyond: 20_000 - failed, ..ProcessLosses::default() },
        "{} operations",
        operations.len()
    );
}

/// The kernel stores the user of this many sockets, so that only their creation is reported and not
/// each use.
#[test]
fn ten_thousand_sockets_in_use_are_reported_once() {
    const BATCHES: usize = 20 + 1;
    let Some((mut tracer, cgroup)) = attached(ProcessTracerConfig { failed_calls: false, ..ALL }) else { return };
    // Waits after each batch until the ring is drained, because the ring cannot hold the records of
    // all sockets. The last batch are the messages; afterwards the exit closes all sockets at once,
    // which may fill the ring.
    let script = "import os, resource, socket\n\
        resource.setrlimit(resource.RLIMIT_NOFILE, (11000, 11000))\n\
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(('127.0.0.1', 0))\n\
        all = []\n\
        for _ in range(20):\n\
        \x20 all += [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(500)]\n\
        \x20 for one in all[-500:]: one.sendto(b'x', server.getsockname())\n\
        \x20 os.write(1, b'x'); os.read(0, 1)\n\
        for _ in range(2):\n\
        \x20 for one in all: one.sendto(b'x', server.getsockname())\n\
        os.write(1, b'x'); os.read(0, 1)\n";
    let mut command = cgroup.command("python3", &["-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    let (mut go_on, mut batch_done) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut reported = Vec::new();
    for _ in 0..BATCHES {
        batch_done.read_exact(&mut [0]).expect("a batch");
        reported.extend(operations(&events(&mut tracer)));
        assert_eq!(tracer.lost().expect("readable"), ProcessLosses::default());
        go_on.write_all(b"x").expect("the child waits");
    }
    assert!(child.wait().expect("ends").success());
    let count = |operation| reported.iter().filter(|one| one.1 == operation).count();
    assert_eq!((count(SocketOperation::Created), count(SocketOperation::Used)), (10_001, 10_000), "the first message");
}
