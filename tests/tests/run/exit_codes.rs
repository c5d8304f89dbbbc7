//! Exit codes of `netwatch run` for each way in which a command can end.

use netwatch_tests::internet;

#[test]
fn each_end_of_a_command_has_its_exit_code() {
    let net = internet!();
    let table: [(&[&str], i32); 10] = [
        (&["true"], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["sh", "-c", "kill -INT $$"], 128 + 2),
        (&["/etc/passwd"], 126),
        (&["/nonexistent/program"], 127),
        (&["no-such-program-anywhere"], 127),
    ];
    for (command, code) in table {
        let before = net.host.state();
        let run = net.host.watch(command);
        assert_eq!(run.code, Some(code), "{command:?}: {run}");
        net.host.assert_nothing_left(&before);
    }
}

#[test]
fn an_invalid_command_line_of_run_gives_exit_code_125() {
    let net = internet!();
    for arguments in
        [&["run"][..], &["run", "--no-such-flag", "--", "true"], &["run", "--duration", "soon", "--", "true"]]
    {
        net.host.netwatch(arguments).assert_code(125);
    }
}

#[test]
fn the_signal_that_killed_the_command_is_in_the_report() {
    let net = internet!();
    let run = net.host.watch(&["sh", "-c", "kill -TERM $$"]);
    assert_eq!(run.report()["run"]["exit_signal"], 15, "{run}");
}

#[test]
fn a_closed_standard_error_does_not_change_the_exit_code() {
    let net = internet!();
    let binary = net.host.binary();
    let (ok, output) = net.host.try_sh(&format!("{} run -- sh -c 'exit 5' 2>&- || [ $? = 5 ]", binary.display()));
    assert!(ok, "{output}");
}
