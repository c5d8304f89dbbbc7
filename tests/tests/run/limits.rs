//! Resource limits that netwatch inherits: errors name them, and the command inherits them.

use netwatch_tests::internet;

#[test]
fn the_limit_of_open_files_is_raised_for_netwatch_only() {
    let net = internet!();
    let netwatch = net.host.binary();
    let soft = net.host.sh(&format!("ulimit -Sn 8; exec {} run -q -- sh -c 'ulimit -Sn'", netwatch.display()));
    assert_eq!(soft.trim(), "8");
}

#[test]
fn too_few_open_files_are_an_error_before_anything_is_changed() {
    let net = internet!();
    let before = net.host.state();
    for limit in [7, 10, 20, 35, 127] {
        let run = format!("ulimit -n {limit}; exec {} run -q -o report -- true", net.host.binary().display());
        // The outer shell needs more files itself.
        let script = format!("sh -c '{run}' || echo code $?");
        let printed = net.host.sh(&script);
        let error = format!("(RLIMIT_NOFILE) is {limit}\nhint: ");
        assert!(printed.starts_with("code 125\n") && printed.contains(&error), "{limit}: {printed}");
        assert!(!net.host.dir().join("report").exists(), "{limit}");
    }
    net.host.assert_nothing_left(&before);
}

#[test]
fn a_limit_of_file_sizes_is_an_error_and_no_silent_end() {
    let net = internet!();
    let before = net.host.state();
    let script = format!("ulimit -f 0; {} run -q -- true 2>&1 || echo code $?", net.host.binary().display());
    let printed = net.host.sh(&script);
    assert!(printed.contains("(EFBIG)\nhint: ") && printed.ends_with("code 125\n"), "{printed}");
    net.host.assert_nothing_left(&before);
}

/// The signal of a file that becomes too large kills the command as it would without netwatch.
#[test]
fn the_command_inherits_the_limit_of_file_sizes() {
    let net = internet!();
    let command = "exec head -c 100000 /dev/zero > large";
    let script = format!(
        "ulimit -f 16; {} run -q --no-record -- sh -c '{command}' 2>&1 || echo code $?",
        net.host.binary().display()
    );
    let printed = net.host.sh(&script);
    assert_eq!(printed, format!("code {}\n", 128 + libc::SIGXFSZ));
}
