//! A short storm (`cargo xtask storm` is the long one): runs whose processes are killed and whose
//! system calls fail at random moments leave nothing, and the host forwards for no other machine.

use netwatch_tests::{internet, needs, storm};

/// Always the same choices: what random ones find belongs into the long storm.
const SEED: u64 = 7;

#[test]
fn killed_runs_leave_nothing_and_forward_for_no_other_host() {
    let net = internet!();
    storm::kill_runs(&storm::Storm::new(&net, SEED), 24);
}

#[test]
fn killed_runs_without_cgroups_leave_nothing_and_forward_for_no_other_host() {
    let net = internet!();
    net.host.forbid_cgroups();
    storm::kill_runs(&storm::Storm::new(&net, SEED), 24);
}

#[test]
fn runs_in_parallel_work_and_leave_nothing() {
    let net = internet!();
    storm::run_in_parallel(&storm::Storm::new(&net, SEED), 12);
}

#[test]
fn runs_with_failed_system_calls_end_and_leave_nothing() {
    needs!("strace");
    let net = internet!();
    storm::fail_calls(&storm::Storm::new(&net, SEED), 24);
}
