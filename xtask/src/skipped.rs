//! Runs tests and says at the end which were skipped, and why: the test harness shows what a test prints only when it fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::Result;

/// Runs `cargo test …`; skipped tests are named, and a failure where `allowed` is false.
pub fn run(tests: &mut Command, allowed: bool) -> Result {
    let shown = format!("{:?}", tests.get_args().collect::<Vec<_>>());
    tests.args(["--", "--show-output"]).stdout(Stdio::piped());
    let mut child = tests.spawn().map_err(|error| format!("cannot start cargo {shown}: {error}"))?;
    let mut output = Output::default();
    for line in BufReader::new(child.stdout.take().expect("it is a pipe")).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read what the tests say: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        if output.shows(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|error| format!("cannot wait for cargo {shown}: {error}"))?;
    print!("{}", output.summary());
    match (status.success(), output.skipped.is_empty() || allowed) {
        (false, _) => Err(format!("the tests failed: {status}")),
        (true, false) => Err("tests were skipped although NETWATCH_TESTS_NO_SKIP=1".into()),
        (true, true) => Ok(()),
    }
}

/// What is known from the lines so far.
#[derive(Default)]
struct Output {
    /// Within what tests that passed have printed (`--show-output`), which is not shown.
    in_successes: bool,
    test: String,
    /// Reasons, and the tests that gave them.
    skipped: BTreeMap<String, Vec<String>>,
}

impl Output {
    /// Takes in a line; whether it is to be shown.
    fn shows(&mut self, line: &str) -> bool {
        let ends = line == "failures:" || line.starts_with("test result:");
        self.in_successes = (self.in_successes || line == "successes:") && !ends;
        if !self.in_successes {
            return true;
        }
        if let Some(test) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            test.clone_into(&mut self.test);
        } else if let Some(why) = line.strip_prefix("skipped: ") {
            let tests = self.skipped.entry(why.to_owned()).or_default();
            if tests.last() != Some(&self.test) {
                tests.push(self.test.clone());
            }
        }
        false
    }

    fn summary(&self) -> String {
        let total: usize = self.skipped.values().map(Vec::len).sum();
        let mut text = if total == 0 { String::new() } else { format!("\n{total} tests were skipped:\n") };
        for (why, tests) in &self.skipped {
            text += &format!("  {why} ({}):\n", tests.len());
            tests.iter().for_each(|test| text += &format!("    {test}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "running 3 tests
test a::one ... ok
test b::two ... ok
test c ... FAILED

successes:

---- a::one stdout ----
skipped: needs root

---- b::two stdout ----
something else
skipped: needs root
skipped: needs root

successes:
    a::one
    b::two

failures:

---- c stdout ----
skipped: this one failed after all

test result: FAILED. 2 passed; 1 failed";

    #[test]
    fn names_who_skipped_and_why() {
        let mut output = Output::default();
        let shown: Vec<_> = SAID.lines().filter(|line| output.shows(line)).collect();
        assert_eq!(output.summary(), "\n2 tests were skipped:\n  needs root (2):\n    a::one\n    b::two\n");
        assert!(shown.contains(&"skipped: this one failed after all") && !shown.contains(&"skipped: needs root"));
        assert_eq!(Output::default().summary(), "");
    }
}
