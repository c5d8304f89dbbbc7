//! Time of set-up and tear-down: `netwatch run -- true` compared with `true`, and with the same
//! steps done by hand.

use std::process::Command;
use std::time::Instant;

use netwatch_tests::TestInternet;

use super::median;
use crate::Result;

/// The usual steps to capture the packets of one command; `$$` makes names unique.
const BY_HAND: &str = include_str!("by_hand.sh");

/// Prints the medians of `count` runs each, taken in turn so that all run under the same
/// conditions.
pub fn measure(net: &TestInternet, count: usize) -> Result {
    let mut plain = Vec::new();
    let mut watched = Vec::new();
    let mut by_hand = Vec::new();
    for _ in 0..count.max(1) {
        plain.push(time(&mut net.host.command("true"))?);
        watched.push(time(net.host.command(net.host.binary()).args(["run", "-q", "--", "true"]))?);
        by_hand.push(time(net.host.command("sh").args(["-euc", BY_HAND, "by_hand.sh", "true"]))?);
    }
    let (plain, watched, by_hand) = (median(plain), median(watched), median(by_hand));
    let (ours, theirs) = (watched - plain, by_hand - plain);
    println!("set-up and tear-down, median of {count}");
    println!("  true                        {plain:8.1} ms");
    println!("  netwatch run -- true        {watched:8.1} ms   {ours:+.1} ms (goal: at most +60)");
    println!(
        "  the same by hand            {by_hand:8.1} ms   {theirs:+.1} ms   netwatch takes {:.2} of it",
        ours / theirs
    );
    Ok(())
}

/// Wall-clock milliseconds.
fn time(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    let output = command.output().map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    let took = started.elapsed().as_secs_f64() * 1e3;
    if output.status.success() {
        Ok(took)
    } else {
        Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
