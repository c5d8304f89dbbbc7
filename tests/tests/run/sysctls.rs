//! The sysctls of the host that sockets notice are those of the command's namespace.

use netwatch_tests::{FinishedRun, USER, internet};

const TUNED: [(&str, &str); 16] = [
    ("net.core.somaxconn", "77"),
    ("net.ipv4.ip_default_ttl", "99"),
    ("net.ipv4.ip_unprivileged_port_start", "80"),
    ("net.ipv4.ip_local_port_range", "100 900"),
    // Longer than the 32 bytes that the kernel gives to a short read.
    ("net.ipv4.ip_local_reserved_ports", "20002,20006,20010,20014,20018,20022,20026"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv4.tcp_ecn", "1"),
    ("net.ipv4.tcp_fin_timeout", "17"),
    ("net.ipv4.tcp_keepalive_intvl", "21"),
    ("net.ipv4.tcp_keepalive_probes", "4"),
    ("net.ipv4.tcp_keepalive_time", "300"),
    ("net.ipv4.tcp_mtu_probing", "1"),
    ("net.ipv4.tcp_syn_retries", "3"),
    ("net.ipv4.tcp_timestamps", "0"),
    ("net.ipv6.bindv6only", "1"),
    ("net.unix.max_dgram_qlen", "44"),
];

fn path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

/// Prints the tuned values as the command finds them, one per line.
fn show() -> String {
    TUNED.map(|(name, _)| format!("tr '\\t' ' ' < {}", path(name))).join(";")
}

fn assert_no_note(run: &FinishedRun) {
    let notes = run.report().get("notes").map(ToString::to_string).unwrap_or_default();
    assert!(!notes.contains("sysctl"), "{run}");
}

#[test]
fn the_command_has_the_values_that_the_host_was_tuned_to() {
    let net = internet!();
    for (name, value) in TUNED {
        net.host.sh(&format!("echo {value} > {}", path(name)));
    }
    let run = net.host.run(&["-u", USER], &["sh", "-c", &show()]);
    let values: Vec<_> = run.assert_ok().stdout.lines().collect();
    assert_eq!(values, TUNED.map(|(_, value)| value), "{run}");
    assert_no_note(&run);
}

#[test]
fn an_ordinary_user_binds_a_low_port_where_the_host_permits_it() {
    let net = internet!();
    let serve = format!("{} serve 127.0.0.1:80", crate::TRAFFIC);
    let script = format!(
        "{serve} & until ss -Hltn 'sport = :80' | grep -q .; do kill -0 $!; sleep 0.02; done
        printf x | socat -u - TCP4:127.0.0.1:80; wait $!"
    );
    let run = || net.host.run(&["-u", USER], &["sh", "-ec", &script]);
    assert_ne!(run().code, Some(0), "the default of the kernel is 1024");
    net.host.sh("echo 80 > /proc/sys/net/ipv4/ip_unprivileged_port_start");
    run().assert_ok();
}

#[test]
fn switches_of_interfaces_and_keys_are_not_copied() {
    let net = internet!();
    let own = "cd /proc/sys/net/ipv4; cat conf/all/forwarding conf/all/log_martians tcp_fastopen_key";
    net.host.sh("cd /proc/sys/net/ipv4; echo 1 > conf/all/forwarding; echo 1 > conf/all/log_martians
        echo 11111111-22222222-33333333-44444444 > tcp_fastopen_key");
    let run = net.host.watch(&["sh", "-c", own]);
    let lines: Vec<_> = run.assert_ok().stdout.lines().collect();
    assert_eq!(lines[..2], ["0", "0"], "{run}");
    assert!(!lines[2].contains("11111111"), "{run}");
}
