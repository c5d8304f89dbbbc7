//! System calls that fail at a random moment of a run, in netwatch, its guardian or the command, by
//! strace. However a run ends, it has to end, and nothing may be left.

use std::process::{Child, Command};

use super::Storm;
use crate::internet::TestInternet;
use crate::random::Random;
use crate::wait::wait_until;

/// Calls that a run makes. `?` is for those that not every architecture has.
const CALLS: [&str; 42] = [
    "openat",
    "read",
    "write",
    "writev",
    "socket",
    "socketpair",
    "bind",
    "connect",
    "listen",
    "sendto",
    "sendmsg",
    "recvfrom",
    "recvmsg",
    "setsockopt",
    "getsockopt",
    "ioctl",
    "bpf",
    "mmap",
    "clone3",
    "?fork",
    "?vfork",
    "mount",
    "unshare",
    "setns",
    "?mkdir",
    "?unlink",
    "unlinkat",
    "?rename",
    "flock",
    "fcntl",
    "?poll",
    "ppoll",
    "epoll_ctl",
    "eventfd2",
    "signalfd4",
    "pipe2",
    "newfstatat",
    "statx",
    "getdents64",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
];
const ERRORS: [&str; 6] = ["EPERM", "ENOMEM", "EMFILE", "EINVAL", "ENOSPC", "EINTR"];
/// Most calls of a kind are among the first so many of their thread.
const MAX_NUMBER: u64 = 60;

/// Lets a call fail in this many runs.
pub fn fail_calls(storm: &Storm<'_>, count: usize) {
    storm.repeat("runs with failed calls", count, fail_one);
}

fn fail_one(net: &TestInternet, mut random: Random) {
    let (call, error) = (random.pick(&CALLS), random.pick(&ERRORS));
    // Small numbers are more frequent, because few calls are made often.
    let number = 1 + random.below(MAX_NUMBER) * random.below(MAX_NUMBER) / MAX_NUMBER;
    let inject = format!("inject={call}:error={error}:when={number}");
    let mut command = net.host.command("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
    command.arg(net.host.binary()).args(["run", "-q", "--", "curl", "-sS", "http://app.example/"]);
    end(&mut start(command), &inject);
}

fn start(mut command: Command) -> Child {
    let null = || std::process::Stdio::null();
    command.stdout(null()).stderr(null()).spawn().expect("start strace")
}

/// strace ends when the last process of the run has ended.
fn end(child: &mut Child, inject: &str) {
    wait_until(|| child.try_wait().expect("wait for strace").is_some(), || format!("the end of a run with {inject}"));
}
