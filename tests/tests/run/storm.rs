//! A short storm (`cargo xtask storm` is the long one): runs whose processes are killed and whose
//! system calls fail at random moments leave nothing, and the host forwards for no other machine.

use netwatch_tests::{internet, needs, storm};

/// Different moments in each run of the tests; a failure prints it.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::from(since.subsec_nanos()))
}

#[test]
fn killed_runs_leave_nothing_and_forward_for_nobody() {
    let net = internet!();
    storm::kill_runs(&storm::Storm::new(&net, seed()), 24);
}

#[test]
fn killed_runs_without_cgroups_leave_nothing_and_forward_for_nobody() {
    let net = internet!();
    net.host.forbid_cgroups();
    storm::kill_runs(&storm::Storm::new(&net, seed()), 24);
}

#[test]
fn runs_in_parallel_work_and_leave_nothing() {
    let net = internet!();
    storm::run_in_parallel(&storm::Storm::new(&net, seed()), 12);
}

#[test]
fn runs_with_failed_system_calls_end_and_leave_nothing() {
    needs!("strace");
    let net = internet!();
    storm::fail_calls(&storm::Storm::new(&net, seed()), 24);
}
