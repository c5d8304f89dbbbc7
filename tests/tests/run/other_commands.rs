//! `doctor`, `list`, `clean`, `--help`, `-V`.

use netwatch_tests::{USER_ID, internet, needs};

#[test]
fn doctor_succeeds_where_run_works() {
    let net = internet!();
    let before = net.host.state();
    let run = net.host.netwatch(&["doctor"]);
    run.assert_ok();
    let text = run.stdout.to_lowercase();
    for subject in
        ["kernel", "capabilit", "bpf", "btf", "attach", "nf_tables", "cgroup", "uplink", "resolver", "forward"]
    {
        assert!(text.contains(subject), "{subject}: {run}");
    }
    net.host.assert_nothing_left(&before);
}

#[test]
fn doctor_reports_the_attach_method_that_run_uses() {
    let net = internet!();
    let doctor = net.host.netwatch(&["doctor"]).assert_ok().stdout.clone();
    let line = doctor.lines().find(|line| line.contains("attach: ")).unwrap_or_else(|| panic!("{doctor}"));
    let run = net.host.netwatch(&["run", "-v", "--", "true"]);
    let used = run.assert_ok().stderr.split("classifier by ").nth(1).and_then(|rest| rest.split(',').next());
    let used = used.unwrap_or_else(|| panic!("{run}"));
    assert!(line.contains(&format!("attach: by {used}")), "{line}\n{run}");
    let other = if used == "clsact" { "tcx" } else { "clsact" };
    assert!(line.contains(&format!("{other} works too")) || line.contains("the other method does not work"), "{line}");
}

#[test]
fn doctor_reports_the_memory_for_the_default_of_max_flows() {
    let net = internet!();
    let doctor = net.host.netwatch(&["doctor"]);
    let output = doctor.assert_ok().stdout.split_once(" MiB with 131072 flows (--max-flows)");
    let mebibytes = output.and_then(|(before, _)| before.rsplit(' ').next()?.parse::<u32>().ok());
    // 256 bytes for each flow, and the other maps.
    assert!(mebibytes.is_some_and(|number| (33..64).contains(&number)), "{doctor}");
    let help = net.host.netwatch(&["run", "--help"]);
    for (flag, default) in [("--max-flows <N>", "131072"), ("--sample-buffer <KIB>", "2048")] {
        let about = help.assert_ok().stdout.split_once(flag).and_then(|(_, rest)| rest.split(" --").next());
        assert!(about.is_some_and(|about| about.contains(&format!("[default: {default}]"))), "{flag}: {help}");
    }
}

#[test]
fn doctor_fails_where_run_would_fail() {
    let net = internet!();
    let (ok, output) = net.host.try_sh(&format!(
        "setpriv --bounding-set -net_admin --inh-caps -net_admin {} doctor",
        net.host.binary().display()
    ));
    assert!(!ok && output.contains("CAP_NET_ADMIN"), "{output}");
}

#[test]
fn doctor_fails_where_a_guard_has_no_place() {
    let net = internet!();
    net.host.sh("ip rule add priority 1 lookup main");
    let cause = "a routing rule of another program has priority 1; give that rule a higher number";
    net.host.run(&[], &["true"]).assert_error(125, &["a routing rule of another program has priority 1"]);
    let doctor = net.host.netwatch(&["doctor"]);
    let cause = cause.replace("; give", " → give");
    assert!(doctor.code != Some(0) && doctor.stdout.contains(&cause), "{doctor}");
}

#[test]
fn tables_of_iptables_legacy_need_a_capability_more() {
    needs!("iptables-legacy");
    let net = internet!();
    if !net.host.try_sh("iptables-legacy -P FORWARD DROP").0 {
        return netwatch_tests::skip("this kernel has no iptables-legacy");
    }
    for netwatch in ["doctor", "run -q --no-record -- true"] {
        let command = format!("setpriv --bounding-set -net_raw --inh-caps -net_raw {}", net.host.binary().display());
        let (is_ok, output) = net.host.try_sh(&format!("{command} {netwatch}"));
        assert!(!is_ok && output.contains("needs CAP_NET_RAW"), "{netwatch}: {output}");
    }
}

#[test]
fn list_shows_only_active_runs() {
    let net = internet!();
    let mut running = net.host.start(&["--name", "shown"], &["sh", "-c", "echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    let list = net.host.netwatch(&["list"]);
    assert!(
        list.assert_ok().stdout.contains("exec sleep 300") && list.stdout.contains(&running.pid().to_string()),
        "{list}"
    );
    running.signal(libc::SIGTERM);
    running.finish();
    assert!(!net.host.netwatch(&["list"]).assert_ok().stdout.contains("sleep 300"));
}

#[test]
fn clean_succeeds_after_an_ordinary_run() {
    let net = internet!();
    net.host.watch(&["true"]).assert_ok();
    net.host.netwatch(&["clean"]).assert_ok();
}

#[test]
fn clean_and_list_without_root_fail_with_a_hint() {
    let net = internet!();
    let binary = net.host.copied_binary();
    net.host.netwatch(&["clean"]).assert_ok();
    for command in ["clean", "list"] {
        let (_, output) = net.host.try_sh(&format!(
            "setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups {} {command} || echo exit code $?",
            binary.display()
        ));
        for part in ["/run/netwatch/lock", "(EACCES)\nhint: run with sudo\n", "exit code 2"] {
            assert!(output.contains(part), "{command}: {part}: {output}");
        }
    }
}

#[test]
fn help_has_examples_and_the_version_is_one_line() {
    let net = internet!();
    let help = net.host.netwatch(&["--help"]);
    assert!(help.assert_ok().stdout.contains("sudo netwatch run -- curl"), "{help}");
    let version = net.host.netwatch(&["-V"]);
    assert!(version.assert_ok().stdout.starts_with("netwatch "), "{version}");
    assert_eq!(version.stdout.lines().count(), 1);
}
