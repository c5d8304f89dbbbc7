//! SIGKILL at a random moment of a run: of netwatch, its guardian, or both.

use std::thread;
use std::time::Duration;

use super::Storm;
use crate::internet::TestInternet;
use crate::random::Random;
use crate::run::RunningNetwatch;

/// Commands: one that waits, one with a daemon that outlives it, one that uses the network and one
/// that ends at once.
const COMMANDS: [&str; 4] =
    ["exec sleep 300", "setsid sleep 300 & exec sleep 300", "curl -sS http://app.example/", "true"];
/// Everything that needs a further change of the host.
const FLAGS: [&[&str]; 3] = [&[], &["--host-loopback"], &["--publish", "8080:80"]];

/// Kills this many runs.
pub fn kill_runs(storm: &Storm<'_>, count: usize) {
    let whole = storm.net.host.run(&["-q"], &["true"]).took;
    // Some are killed after their end, most before.
    let longest = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX) * 3 / 2;
    storm.repeat("killed runs", count, |net, random| kill_one(net, random, longest));
}

fn kill_one(net: &TestInternet, mut random: Random, longest_micros: u64) {
    let (flags, command) = (random.pick(&FLAGS), random.pick(&COMMANDS));
    let arguments = [&["run", "-q"], flags, &["--", "sh", "-c", command]].concat();
    let running = net.host.start_netwatch(&arguments);
    thread::sleep(Duration::from_micros(random.below(longest_micros)));
    match (random.below(3), running.try_guardian()) {
        (0, Some(guardian)) => send(guardian, libc::SIGKILL),
        (1, _) => kill_both(&running),
        _ => running.signal(libc::SIGKILL),
    }
    running.finish_early();
}

/// netwatch is stopped first, so that it starts no guardian meanwhile; then neither notices the end
/// of the other.
fn kill_both(running: &RunningNetwatch) {
    running.signal(libc::SIGSTOP);
    if let Some(guardian) = running.try_guardian() {
        send(guardian, libc::SIGSTOP);
        send(guardian, libc::SIGKILL);
    }
    running.signal(libc::SIGKILL);
}

/// Fails if the guardian has ended since.
fn send(guardian: i32, signal: i32) {
    // SAFETY: the call takes no pointer. netwatch is the parent of its guardian and waits for it
    // only at its own end, microseconds after the guardian was found.
    unsafe { libc::kill(guardian, signal) };
}
