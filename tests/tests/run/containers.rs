//! Machines where a part of the usual environment is missing, as in containers: `run` works without
//! it, or `run` and `doctor` name the cause and the remedy.

use netwatch_tests::{TestHost, internet, report};
use serde_json::Value;

/// Runs netwatch in a mount namespace that a script has changed. Returns whether it succeeded, and
/// its output.
fn changed(host: &TestHost, script: &str, netwatch: &str) -> (bool, String) {
    host.try_sh(&format!("unshare -m sh -euc '{script}; exec {} {netwatch}'", host.binary().display()))
}

/// `doctor` and `run` both fail, with this cause.
#[track_caller]
fn assert_both_fail(host: &TestHost, script: &str, cause: &str) {
    let before = host.state();
    for netwatch in ["doctor", "run -q --no-record -- true"] {
        let (is_ok, text) = changed(host, script, netwatch);
        assert!(!is_ok && text.contains(cause), "{netwatch}: {text}");
    }
    host.assert_nothing_left(&before);
}

/// As `ip netns exec` leaves /sys.
const NO_CGROUPS: &str = "umount -l -R /sys; mount -t sysfs sysfs /sys";

#[test]
fn processes_have_names_where_cgroups_are_not_visible() {
    let net = internet!();
    let before = net.host.state();
    let run = "run -j -o report --no-record -- curl -s http://app.example/";
    let (is_ok, text) = changed(&net.host, NO_CGROUPS, run);
    assert!(is_ok && text.contains("hello"), "{text}");
    let text = std::fs::read_to_string(net.host.dir().join("report")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let processes = report::list(&document, "processes");
    assert!(processes.iter().any(|process| process["comm"] == "curl"), "{document:#}");
    assert!(!document["notes"].to_string().contains("cgroup"), "{document:#}");
    net.host.assert_nothing_left(&before);
    let (is_ok, text) = changed(&net.host, NO_CGROUPS, "doctor");
    assert!(is_ok && text.contains("netwatch mounts it for itself"), "{text}");
}

/// The next netwatch has cgroups where it was killed without.
#[test]
fn a_cgroup_that_was_not_visible_is_removed_after_a_kill() {
    let net = internet!();
    let before = net.host.state();
    let script = format!(
        "unshare -m sh -euc '{NO_CGROUPS}; exec {} run -q --no-record -- sleep 100' >/dev/null 2>&1 & echo $! > pid
        until ls /run/netwatch/????????/card.json; do sleep 0.02; done",
        net.host.binary().display()
    );
    net.host.sh(&script);
    // Both are stopped first, so that neither notices the end of the other.
    let both = "$(cat pid) $(pgrep -P $(cat pid) nw-guardian)";
    net.host.sh(&format!("both=\"{both}\"; kill -STOP $both; kill -KILL $both"));
    // Until both are dead, the run counts as one in progress.
    net.host.wait_for(&format!("{} clean; ! ls -d /run/netwatch/????????", net.host.binary().display()));
    net.host.assert_nothing_left(&before);
}

const READ_ONLY_SYSCTLS: &str = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys";

#[test]
fn read_only_sysctls_are_named_unless_the_host_has_preset_them() {
    let net = internet!();
    assert_both_fail(&net.host, READ_ONLY_SYSCTLS, "/proc/sys cannot be written");
    net.host.sh("cd /proc/sys/net; echo 1 > ipv4/conf/all/forwarding; echo 1 > ipv6/conf/all/forwarding");
    let before = net.host.state();
    for netwatch in ["doctor", "run -q --no-record -- curl -s http://app.example/"] {
        let (is_ok, text) = changed(&net.host, READ_ONLY_SYSCTLS, netwatch);
        assert!(is_ok, "{netwatch}: {text}");
    }
    net.host.assert_nothing_left(&before);
}

#[test]
fn low_limits_are_named() {
    let net = internet!();
    assert_both_fail(&net.host, "ulimit -n 64", "(RLIMIT_NOFILE) is 64");
    assert_both_fail(&net.host, "ulimit -f 0", "raise the limit for the size of files");
    for netwatch in ["doctor", "run -q --no-record -- true"] {
        let (is_ok, text) = changed(&net.host, "ulimit -Sn 64", netwatch);
        assert!(is_ok, "the soft limit is raised: {netwatch}: {text}");
    }
}

#[test]
fn a_user_namespace_is_named() {
    let net = internet!();
    for netwatch in ["doctor", "run -q --no-record -- true"] {
        let (is_ok, text) = net.host.try_sh(&format!("unshare -Ur {} {netwatch}", net.host.binary().display()));
        assert!(!is_ok && text.contains("user namespace"), "{netwatch}: {text}");
    }
}
