//! The firewalls' own tools, each in a network namespace that nobody else is in.

use std::io::Write;
use std::process::{Command, Stdio};

/// Debian's own: its packages are not seen by another Python that stands before it in the path.
pub const PYTHON: &str = "/usr/bin/python3";

/// What a tool said.
pub struct Said {
    pub ok: bool,
    pub text: String,
}

impl Said {
    #[track_caller]
    pub fn assert_ok(&self, rules: &str) -> &Self {
        assert!(self.ok, "refused: {}\n{rules}", self.text);
        self
    }
}

/// Whether a tool is there; otherwise the reason for skipping is printed, and where no skip is allowed (CI) it is a failure.
pub fn has(tool: &str, how: &[&str]) -> bool {
    let is_there = Command::new(how[0]).args(&how[1..]).output().is_ok_and(|output| output.status.success());
    let may_skip = std::env::var_os("NETWATCH_TESTS_NO_SKIP").is_none_or(|value| value != "1");
    assert!(is_there || may_skip, "skipped although NETWATCH_TESTS_NO_SKIP=1: no {tool}");
    if !is_there {
        println!("skipped: no {tool} (`cargo xtask setup` installs it)");
    }
    is_there
}

/// A shell script in a network and mount namespace of its own, in a new directory whose file `rules` has the rules.
pub fn sh(script: &str, rules: &str) -> Said {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("rules"), rules).expect("write the rules");
    run(Command::new("unshare").args(["--net", "--mount", "sh", "-euc", script]).current_dir(dir.path()), "")
}

/// A program of Python, the rules on its standard input.
pub fn python(program: &str, arguments: &[&str], rules: &str) -> Said {
    run(Command::new(PYTHON).args(["-c", program]).args(arguments), rules)
}

fn run(command: &mut Command, input: &str) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Debian's sbin is not in everybody's path.
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    let mut child = command.spawn().expect("start a tool");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A tool that reads nothing closes its end.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("wait for a tool");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Said { ok: output.status.success(), text }
}
