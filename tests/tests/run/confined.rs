//! The rights of the processes of a run, as docs/security.md lists them, read from /proc.

use std::fs;

use netwatch_tests::{USER, internet};

/// The capabilities in the list of docs/security.md, as a mask.
fn kept() -> u64 {
    // In the order of linux/capability.h.
    const NAMES: [&str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    let page = include_str!("../../../docs/security.md");
    let list = page.split("The worker keeps ").nth(1).and_then(|rest| rest.split(", as far").next());
    let names = list.expect("the list of docs/security.md").replace(" and ", ", ").replace('\n', " ");
    let number = |name: &str| NAMES.iter().position(|known| *known == name).unwrap_or_else(|| panic!("{name}"));
    names.split(", ").map(|name| 1 << number(name.trim())).sum()
}

/// The fields of `/proc/PID/task/TID/status` of every thread.
fn threads(pid: i32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok()).collect()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn mask(status: &str, name: &str) -> u64 {
    u64::from_str_radix(field(status, name), 16).expect("a mask")
}

#[test]
fn the_worker_has_the_rights_that_the_threat_model_lists() {
    let net = internet!();
    let mut running = net.host.start(&["-u", USER], &["sh", "-c", "echo $$; echo ready; exec sleep 300"]);
    running.wait_for_stdout("ready");
    let own = mask(&fs::read_to_string("/proc/self/status").expect("/proc is mounted"), "CapEff");
    let worker = threads(running.pid());
    assert!(worker.len() > 2, "the control loop, the host thread, the meter");
    for status in &worker {
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(mask(status, set) & !kept(), 0, "{set}: {status}");
        }
        assert_eq!((field(status, "NoNewPrivs"), field(status, "Seccomp")), ("1", "2"), "{status}");
        assert_eq!(field(status, "Seccomp_filters"), "2", "{status}");
    }
    for status in threads(running.guardian()) {
        assert_eq!((mask(&status, "CapEff"), field(&status, "NoNewPrivs")), (own, "0"), "{status}");
        assert_eq!(field(&status, "Seccomp"), "0", "{status}");
    }
    let command: i32 = running.stdout().lines().next().and_then(|pid| pid.parse().ok()).expect("a pid");
    let command = &threads(command)[0];
    assert_eq!((mask(command, "CapEff"), mask(command, "CapPrm")), (0, 0), "{command}");
    assert_eq!(field(command, "NoNewPrivs"), "0", "sudo works in it: {command}");
    running.signal(libc::SIGTERM);
    running.finish();
}
