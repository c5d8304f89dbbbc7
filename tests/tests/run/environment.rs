//! The user that the command runs as, and its environment.

use netwatch_tests::{FinishedRun, StartOptions, TestHost, USER, USER_ID, internet, needs};

const SHOW: &str = "id -u; id -g; pwd; env | sort";

fn home(host: &TestHost) -> String {
    host.dir().join("home").display().to_string()
}

#[track_caller]
fn assert_is_user(run: &FinishedRun, host: &TestHost) {
    let lines: Vec<_> = run.assert_ok().stdout.lines().collect();
    assert_eq!(lines[..2], [USER_ID.to_string(), USER_ID.to_string()], "{run}");
    for expected in
        [format!("HOME={}", home(host)), format!("USER={USER}"), format!("LOGNAME={USER}"), "SHELL=/bin/sh".into()]
    {
        assert!(lines.contains(&expected.as_str()), "{expected}: {run}");
    }
}

#[test]
fn under_sudo_the_command_runs_as_the_calling_user() {
    let net = internet!();
    let id = USER_ID.to_string();
    let options = StartOptions::env(&[("SUDO_UID", &id), ("SUDO_GID", &id), ("SUDO_USER", USER), ("KEPT", "as it is")]);
    let run = net.host.run_with(options.clone(), &[], &["sh", "-c", SHOW]);
    assert_eq!(
        run.code,
        Some(125),
        "the calling user has no permission to write the report into a directory of root: {run}"
    );
    let run = net.host.netwatch_with(options, &["run", "-q", "--", "sh", "-c", SHOW]);
    assert_is_user(&run, &net.host);
    for line in ["KEPT=as it is", "NETWATCH=1"] {
        assert!(run.stdout.lines().any(|one| one == line), "{line}: {run}");
    }
}

/// They may be set for all runs, also for those without a capture, a soak or a file of events.
#[test]
fn a_variable_of_a_flag_that_needs_another_one_has_no_effect_alone() {
    let net = internet!();
    let variables = [
        ("NETWATCH_FILTER", "tcp"),
        ("NETWATCH_FORCE", "1"),
        ("NETWATCH_FILE_SIZE", "1m"),
        ("NETWATCH_FILE_COUNT", "3"),
        ("NETWATCH_REPORT_EVERY", "5m"),
        ("NETWATCH_EVENTS_SIZE", "1m"),
    ];
    net.host.netwatch_with(StartOptions::env(&variables), &["run", "-q", "--", "true"]).assert_ok();
    let run = net.host.netwatch(&["run", "-q", "--events-size", "1m", "--", "true"]);
    assert!(run.assert_code(125).stderr.contains("--events-size needs --events-file"), "{run}");
}

/// Runs a command line under the real sudo, as the ordinary user with these variables. `$NETWATCH`
/// in it is netwatch.
fn under_sudo(host: &TestHost, variables: &str, command_line: &str) -> String {
    host.sh(&format!(
        "echo '{USER} ALL=(ALL) NOPASSWD: SETENV: ALL' > /etc/sudoers.d/tester; chmod 440 /etc/sudoers.d/tester"
    ));
    let binary = host.copied_binary();
    let command_line = command_line.replace("$NETWATCH", &binary.display().to_string());
    host.sh(&format!("setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups env {variables} {command_line}"))
}

#[track_caller]
fn assert_lines(text: &str, expected: &[&str]) {
    for line in expected {
        assert!(text.lines().any(|one| one == *line), "{line}: {text}");
    }
}

const PATH: &str = "PATH=/opt/mine/bin:/usr/bin:/bin:/usr/sbin:/sbin";

#[test]
fn under_real_sudo_the_command_has_the_environment_of_the_calling_user() {
    let net = internet!();
    needs!("sudo");
    let lost = "http_proxy=http://127.0.0.1:3128 SSH_AUTH_SOCK=/tmp/agent XDG_RUNTIME_DIR=/run/user/4242 no_proxy=x";
    let variables = format!("{PATH} {lost} SECRET=1");
    let run = format!("$NETWATCH run -q --no-record -- sh -c '{SHOW}'");
    let text = under_sudo(&net.host, &variables, &format!("sudo no_proxy=after {run}"));
    assert!(text.starts_with(&format!("{USER_ID}\n")), "{text}");
    let listed: Vec<&str> = lost.split(' ').filter(|one| !one.starts_with("no_proxy")).collect();
    assert_lines(&text, &[&listed[..], &[PATH, "no_proxy=after"]].concat());
    assert!(!text.contains("SECRET"), "not on the list: {text}");
    let text = under_sudo(&net.host, &variables, &format!("sudo -E {run}"));
    assert_lines(&text, &[&listed[..], &[PATH, "no_proxy=x", "SECRET=1"]].concat());
}

#[test]
fn in_a_root_shell_of_sudo_the_command_runs_as_root() {
    let net = internet!();
    needs!("sudo");
    let run = "$NETWATCH run -q --no-record -- id -u";
    let text = under_sudo(&net.host, "SHELL=/bin/sh", &format!("sh -c 'echo {run} | sudo -s'"));
    assert_eq!(text, "0\n", "a root shell");
    let text = under_sudo(&net.host, "SHELL=/bin/sh", &format!("sudo sh -c '{run}'"));
    assert_eq!(text, format!("{USER_ID}\n"), "a script");
}

#[test]
fn a_user_can_be_chosen() {
    let net = internet!();
    for user in [USER, &USER_ID.to_string()] {
        assert_is_user(&net.host.run(&["-u", user], &["sh", "-c", SHOW]), &net.host);
    }
    let options = StartOptions::env(&[("SUDO_UID", "4242"), ("SUDO_GID", "4242"), ("SUDO_USER", USER)]);
    let run = net.host.netwatch_with(options, &["run", "-q", "-u", "root", "--", "id", "-u"]);
    assert_eq!(run.assert_ok().stdout, "0\n");
}

#[test]
fn without_another_user_the_environment_is_unchanged() {
    let net = internet!();
    let (plain, watched) =
        (net.host.sh("env | grep -v '^_=' | sort"), net.host.watch(&["sh", "-c", "env | grep -v '^_=' | sort"]));
    let own = |line: &&str| line.starts_with("NETWATCH=") || line.starts_with("NETWATCH_GATEWAY=");
    let watched: Vec<_> = watched.assert_ok().stdout.lines().filter(|line| !own(line)).collect();
    assert_eq!(
        plain.lines().filter(|line| !line.starts_with("PWD")).collect::<Vec<_>>(),
        watched.into_iter().filter(|line| !line.starts_with("PWD")).collect::<Vec<_>>()
    );
}

#[test]
fn the_working_directory_is_unchanged() {
    let net = internet!();
    let options = StartOptions { dir: Some("/usr/share".into()), ..StartOptions::default() };
    let run = net.host.run_with(options, &[], &["pwd"]);
    assert_eq!(run.assert_ok().stdout, "/usr/share\n");
}

#[test]
fn an_ordinary_user_has_no_capabilities_and_no_open_files_of_netwatch() {
    let net = internet!();
    let run = net.host.run(&["-u", USER], &["grep", "^CapEff", "/proc/self/status"]);
    assert_eq!(run.assert_ok().stdout, "CapEff:\t0000000000000000\n", "{run}");
    let list = "ls -l /proc/self/fd | sed 's/.* \\([0-9]* ->\\)/\\1/'";
    let (plain, watched) = (net.host.sh(list), net.host.run(&["-u", USER], &["sh", "-c", list]));
    // What the test itself has inherited (a lock) is closed for another user.
    let number = |text: &str| text.lines().count();
    assert!(number(&watched.assert_ok().stdout) <= number(&plain), "without netwatch:\n{plain}\nwith: {watched}");
}

#[test]
fn flags_can_be_set_by_environment_variables() {
    let net = internet!();
    let options =
        StartOptions::env(&[("NETWATCH_QUIET", "1"), ("NETWATCH_USER", USER), ("NETWATCH_DURATION", "300ms")]);
    let run = net.host.netwatch_with(options, &["run", "--", "sh", "-c", "id -u; exec sleep 300"]);
    assert_eq!(run.assert_code(124).stdout, format!("{USER_ID}\n"));
    assert_eq!(run.stderr, "", "-q prints nothing");
    let off = StartOptions::env(&[("NETWATCH_QUIET", "0"), ("NETWATCH_NO_NAT", "")]);
    let run = net.host.netwatch_with(off, &["run", "--", "curl", "-s", "http://app.example/"]);
    assert!(run.assert_ok().stderr.contains("every packet counted"), "{run}");
    // A flag on the command line has precedence.
    let options = StartOptions::env(&[("NETWATCH_USER", USER)]);
    assert_eq!(
        net.host.netwatch_with(options, &["run", "-q", "-u", "root", "--", "id", "-u"]).assert_ok().stdout,
        "0\n"
    );
}
