//! Invalid input: one line with operation, object and cause, and a hint; exit code 125; nothing
//! left behind.

use std::fs;

use netwatch_tests::{StartOptions, USER, USER_ID, internet};

#[test]
fn each_invalid_value_is_one_error() {
    let net = internet!();
    let table: [(&[&str], &[&str]); 9] = [
        (&["-u", "no-user-has-this-name"], &["no-user-has-this-name"]),
        (&["--subnet", "10.0.0.0/31"], &["10.0.0.0/31"]),
        (&["--dns", "not-an-address"], &["not-an-address"]),
        (&["--publish", "80"], &["80"]),
        (&["--publish", "99999:80"], &["99999"]),
        (&["--publish", "8080:80/sctp"], &["8080:80/sctp"]),
        (&["--publish", "198.51.100.250:8080:80"], &["198.51.100.250", "address"]),
        (&["-o", "/nonexistent/report.json"], &["/nonexistent/report.json", "ENOENT"]),
        (&["-o", "/usr"], &["/usr", "EISDIR"]),
    ];
    for (flags, words) in table {
        let before = net.host.state();
        let run = net.host.netwatch(&[&["run"], flags, &["--", "echo", "started"]].concat());
        run.assert_error(125, words);
        assert_eq!(run.stdout, "", "found before the command starts: {run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn commands_that_cannot_be_executed_are_errors() {
    let net = internet!();
    let plain = net.host.dir().join("plain");
    fs::write(&plain, "text").unwrap();
    let plain = plain.to_str().unwrap();
    for (command, code, errno) in
        [("/nonexistent", 127, "ENOENT"), ("no-such-command", 127, ""), (plain, 126, "EACCES"), ("/usr", 126, "")]
    {
        let run = net.host.netwatch(&["run", "--", command]);
        run.assert_error(code, &[command, errno]);
    }
}

#[test]
fn a_full_disk_is_125_even_if_the_command_succeeded() {
    let net = internet!();
    let before = net.host.state();
    let run = net.host.netwatch(&["run", "-q", "-j", "-o", "/dev/full", "--", "echo", "done"]);
    assert_eq!(run.assert_error(125, &["/dev/full", "ENOSPC"]).stdout, "done\n");
    net.host.assert_nothing_left(&before);
}

#[test]
fn without_root_the_error_has_a_hint_to_use_sudo() {
    let net = internet!();
    let binary = net.host.copied_binary();
    let (ok, output) = net.host.try_sh(&format!(
        "setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups {} run -- true",
        binary.display()
    ));
    assert!(!ok && output.lines().count() == 2 && output.contains("\nhint: ") && output.contains("sudo"), "{output}");
}

#[test]
fn run_and_doctor_report_a_missing_capability() {
    let net = internet!();
    let binary = net.host.binary();
    let needed =
        ["net_admin", "sys_admin", "sys_chroot", "net_bind_service", "setuid", "setgid", "kill", "dac_override"];
    for capability in needed {
        let without = |arguments: &str| {
            net.host.try_sh(&format!(
                "setpriv --bounding-set -{capability} --inh-caps -{capability} {} {arguments}",
                binary.display()
            ))
        };
        let name = format!("CAP_{}", capability.to_uppercase());
        let (ok, output) = without("run -- true");
        assert!(
            !ok && output.lines().count() == 2 && output.contains("\nhint: ") && output.contains(&name),
            "{capability}: {output}"
        );
        assert!(output.contains("in a container, add what is missing") && !output.contains("sudo"), "{output}");
        let (ok, output) = without("doctor");
        assert!(!ok && output.contains(&format!("missing: {name}")), "{capability}: {output}");
    }
}

#[test]
fn no_other_capability_is_needed() {
    let net = internet!();
    // CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON.
    let all = "net_admin sys_admin sys_chroot net_bind_service setuid setgid kill dac_override";
    let keep: Vec<_> = all.split(' ').map(|name| format!("+{name}")).collect();
    let command = format!("setpriv --bounding-set -all,{} {}", keep.join(","), net.host.binary().display());
    let output = net.host.sh(&format!("{command} doctor && {command} run -q -u {USER} -- id -un"));
    assert!(output.ends_with(&format!("{USER}\n")), "{output}");
}

#[test]
fn the_report_is_written_with_the_permissions_of_the_caller_of_sudo() {
    let net = internet!();
    let id = USER_ID.to_string();
    let options = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER)]);
    let mine = net.host.dir().join("home/report.json");
    net.host
        .netwatch_with(options.clone(), &["run", "-q", "-j", "-o", mine.to_str().unwrap(), "--", "true"])
        .assert_ok();
    assert_eq!(net.host.sh(&format!("stat -c %u {}", mine.display())).trim(), id);
    net.host
        .netwatch_with(options, &["run", "-o", "/etc/passwd", "--", "true"])
        .assert_error(125, &["/etc/passwd", "EACCES"]);
}
