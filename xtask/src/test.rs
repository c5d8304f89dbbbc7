//! Everything there is to test, from source, in one go.

use crate::Result;
use crate::command::cargo;
use crate::{programs, setup, skipped};

/// Sets up, builds the eBPF object, netwatch and the netwatch that can be made to fail, and runs the tests of every crate.
pub fn run(filter: Option<&str>) -> Result {
    if let Err(failure) = setup::run() {
        // Tests that need what is missing skip themselves, or fail where no skip is allowed.
        eprintln!("xtask: {failure}");
    }
    build_object()?;
    let faulty = programs::faulty_netwatch()?;
    let netwatch = programs::netwatch()?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--exclude", "netwatch-ebpf"]).args(filter);
    // Kinds of targets that have none would only add empty sections; all is said once, at the end, even after a failure.
    tests.arg("--no-fail-fast");
    tests.env("NETWATCH_BIN", netwatch).env("NETWATCH_FAULTS_BIN", faulty);
    skipped::run(&mut tests, !no_skip())
}

/// Where the tools to build it are missing, the checked-in object is as good: CI proves it equal.
pub fn build_object() -> Result {
    match crate::build_object() {
        Err(failure) if !no_skip() => {
            eprintln!("xtask: using the checked-in eBPF object, because {failure}");
            Ok(())
        }
        done => done,
    }
}

fn no_skip() -> bool {
    std::env::var_os("NETWATCH_TESTS_NO_SKIP").is_some_and(|value| value == "1")
}
