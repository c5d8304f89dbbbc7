//! Runs every test, built from source, and lists at the end which were skipped and why: the test
//! harness shows the output of a test only when it fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::command::cargo;
use crate::{Result, build, setup};

/// Sets up, builds the eBPF objects, netwatch and the netwatch with injected failures, and runs the
/// tests of every crate.
pub fn run(filter: Option<&str>) -> Result {
    if let Err(failure) = setup::run() {
        // Tests that need what is missing are skipped, or fail where no skip is permitted.
        eprintln!("xtask: {failure}");
    }
    build_objects()?;
    let faulty = build::faulty_netwatch()?;
    let netwatch = build::netwatch()?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--exclude", "netwatch-ebpf"]).args(filter);
    // All tests run, also after a failure.
    tests.arg("--no-fail-fast");
    tests.env("NETWATCH_BIN", netwatch).env("NETWATCH_FAULTS_BIN", faulty);
    run_tests(&mut tests, !no_skip())
}

/// Runs the test that sends ten million connections through a session, alone, because it measures
/// the memory of its process.
pub fn soak() -> Result {
    let mut test = cargo();
    test.args(["test", "--release", "--package", "netwatch", "--test", "soak", "--"]);
    crate::command::run(test.args(["--ignored", "--nocapture", "--test-threads", "1"]))
}

/// Builds the eBPF objects. Where the tools for that are missing, the checked-in objects are used;
/// CI verifies that they are equal.
pub fn build_objects() -> Result {
    match build::objects() {
        Err(failure) if !no_skip() => {
            eprintln!("xtask: using the checked-in eBPF objects: {failure}");
            Ok(())
        }
        done => done,
    }
}

fn no_skip() -> bool {
    std::env::var_os("NETWATCH_TESTS_NO_SKIP").is_some_and(|value| value == "1")
}

/// Runs `cargo test …` and lists skipped tests, which are a failure unless they are permitted.
fn run_tests(tests: &mut Command, may_skip: bool) -> Result {
    let shown = format!("{:?}", tests.get_args().collect::<Vec<_>>());
    tests.args(["--", "--show-output"]).stdout(Stdio::piped());
    let mut child = tests.spawn().map_err(|error| format!("cannot start cargo {shown}: {error}"))?;
    let mut output = TestOutput::default();
    for line in BufReader::new(child.stdout.take().expect("stdout is a pipe")).split(b'\n') {
        let line = line.map_err(|error| format!("cannot read the output of the tests: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        if output.is_shown(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().map_err(|error| format!("cannot wait for cargo {shown}: {error}"))?;
    print!("{}", output.summary());
    match (status.success(), output.skipped.is_empty() || may_skip) {
        (false, _) => Err(format!("the tests failed: {status}")),
        (true, false) => Err("tests were skipped although NETWATCH_TESTS_NO_SKIP=1".into()),
        (true, true) => Ok(()),
    }
}

/// The output of the tests, read line by line.
#[derive(Default)]
struct TestOutput {
    /// Within the output of tests that passed (`--show-output`), which is not shown.
    in_successes: bool,
    test: String,
    /// Each reason with the tests that were skipped for it.
    skipped: BTreeMap<String, Vec<String>>,
}

impl TestOutput {
    /// Parses a line. Returns whether to show it.
    fn is_shown(&mut self, line: &str) -> bool {
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

    const OUTPUT: &str = "running 3 tests
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
skipped: this test failed

test result: FAILED. 2 passed; 1 failed";

    #[test]
    fn lists_skipped_tests_with_their_reasons() {
        let mut output = TestOutput::default();
        let shown: Vec<_> = OUTPUT.lines().filter(|line| output.is_shown(line)).collect();
        assert_eq!(output.summary(), "\n2 tests were skipped:\n  needs root (2):\n    a::one\n    b::two\n");
        assert!(shown.contains(&"skipped: this test failed") && !shown.contains(&"skipped: needs root"));
        assert_eq!(TestOutput::default().summary(), "");
    }
}
