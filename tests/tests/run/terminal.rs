//! netwatch on a terminal: control keys, width, color, job control.

use std::os::unix::process::ExitStatusExt;

use netwatch_tests::{Terminal, internet};

#[test]
fn control_c_reaches_the_command_once_and_netwatch_waits_for_its_end() {
    let net = internet!();
    let script = "trap 'echo caught-$((1 + 1)); exit 9' INT; echo ready; while :; do sleep 0.02; done";
    let mut terminal = net.host.on_terminal(100, &["run", "--", "sh", "-c", script]);
    terminal.wait_for("ready");
    terminal.type_keys("\x03");
    let (status, screen) = terminal.finish();
    assert_eq!(status.code(), Some(9), "{screen}");
    assert_eq!(
        screen.matches("caught-2").count(),
        1,
        "the terminal sends it, so netwatch must not forward it too: {screen}"
    );
    assert!(screen.contains("verified"), "{screen}");
}

#[test]
fn a_command_ended_by_control_c_gives_exit_code_130() {
    let net = internet!();
    let mut terminal = net.host.on_terminal(100, &["run", "--", "sh", "-c", "echo ready; exec sleep 300"]);
    terminal.wait_for("ready");
    terminal.type_keys("\x03");
    let (status, screen) = terminal.finish();
    assert_eq!((status.code(), status.signal()), (Some(130), None), "{screen}");
}

#[test]
fn control_c_does_nothing_where_int_is_inherited_as_ignored() {
    let net = internet!();
    let command =
        net.host.command_ignoring(&[libc::SIGINT], &["run", "--", "sh", "-c", "echo ready; read line; echo got $line"]);
    let mut terminal = Terminal::start(command, 100);
    terminal.wait_for("ready");
    terminal.type_keys("\x03typed\n");
    let (status, screen) = terminal.finish();
    assert!(status.success() && screen.contains("got typed"), "{screen}");
}

#[test]
fn the_command_reads_from_the_terminal() {
    let net = internet!();
    let mut terminal =
        net.host.on_terminal(100, &["run", "--", "sh", "-c", "tty; stty size; read line; echo got $line"]);
    terminal.wait_for("50 100");
    terminal.type_keys("typed\n");
    let (status, screen) = terminal.finish();
    assert!(status.success() && screen.contains("got typed") && screen.contains("/dev/pts/"), "{screen}");
}

#[test]
fn an_interactive_shell_has_job_control() {
    let net = internet!();
    let mut terminal = net.host.on_terminal(100, &["run", "--", "sh", "-i"]);
    terminal.type_keys("PS1=; set -m; sleep 300\n");
    terminal.wait_for_foreground("sleep");
    terminal.type_keys("\x1a");
    terminal.wait_for("Stopped");
    terminal.wait_for_foreground("sh");
    terminal.type_keys("fg\n");
    terminal.wait_for_foreground("sleep");
    terminal.type_keys("\x03");
    terminal.wait_for_foreground("sh");
    terminal.type_keys("echo still-$((1 + 1)); exit 4\n");
    terminal.wait_for("still-2");
    let (status, screen) = terminal.finish();
    assert_eq!(status.code(), Some(4), "{screen}");
}

#[test]
fn the_summary_fits_the_width_of_the_terminal() {
    let net = internet!();
    for columns in [60, 80, 200] {
        let terminal = net.host.on_terminal(
            columns,
            &["run", "--color", "never", "--status", "off", "--", "curl", "-s", "http://app.example/"],
        );
        let (_, screen) = terminal.finish();
        let widest = screen.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or_default();
        assert!(widest <= columns.into(), "{widest} columns of {columns}:\n{screen}");
    }
}

#[test]
fn color_is_used_on_terminals_and_on_request() {
    let net = internet!();
    let is_colored = |flags: &[&str]| {
        let arguments = [&["run", "--status", "off"], flags, &["--", "curl", "-s", "http://app.example/"]].concat();
        net.host.on_terminal(100, &arguments).finish().1.contains("\x1b[")
    };
    assert!(is_colored(&[]) && is_colored(&["--color", "always"]) && !is_colored(&["--color", "never"]));
    let is_colored = |flags: &[&str]| net.host.run(flags, &["true"]).stderr.contains("\x1b[");
    assert!(!is_colored(&[]) && is_colored(&["--color", "always"]), "standard error is a file here");
}
