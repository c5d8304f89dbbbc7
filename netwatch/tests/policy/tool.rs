//! The tools of the firewalls, each in a separate network namespace.

use std::io::Write;
use std::process::{Command, Stdio};

/// Debian's Python: another one in the path would not find Debian's packages.
pub const PYTHON: &str = "/usr/bin/python3";

/// The result of a tool.
pub struct ToolOutput {
    pub ok: bool,
    pub text: String,
}

impl ToolOutput {
    #[track_caller]
    pub fn assert_ok(&self, rules: &str) -> &Self {
        assert!(self.ok, "refused: {}\n{rules}", self.text);
        self
    }
}

/// Whether a tool is installed. Otherwise prints why the test is skipped, and fails if no skip is
/// allowed (CI).
pub fn has(tool: &str, how: &[&str]) -> bool {
    let is_there = Command::new(how[0]).args(&how[1..]).output().is_ok_and(|output| output.status.success());
    let may_skip = std::env::var_os("NETWATCH_TESTS_NO_SKIP").is_none_or(|value| value != "1");
    assert!(is_there || may_skip, "skipped although NETWATCH_TESTS_NO_SKIP=1: no {tool}");
    if !is_there {
        println!("skipped: no {tool} (`cargo xtask setup` installs it)");
    }
    is_there
}

/// Runs a shell script in a new network and mount namespace, in a new directory with the rules in
/// the file `rules`.
pub fn sh(script: &str, rules: &str) -> ToolOutput {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("rules"), rules).expect("write the rules");
    run(Command::new("unshare").args(["--net", "--mount", "sh", "-euc", script]).current_dir(dir.path()), "")
}

/// Runs a Python program with the rules on its standard input.
pub fn python(program: &str, arguments: &[&str], rules: &str) -> ToolOutput {
    run(Command::new(PYTHON).args(["-c", program]).args(arguments), rules)
}

/// Runs a program of jq with a document on its standard input.
#[allow(dead_code, reason = "for JSON reports only")]
pub fn jq(options: &[String], program: &str, document: &str) -> ToolOutput {
    run(Command::new("jq").args(options).arg(program), document)
}

fn run(command: &mut Command, input: &str) -> ToolOutput {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // The default path of Debian's users lacks sbin.
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    let mut child = command.spawn().expect("start a tool");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A tool that reads nothing closes the pipe.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("wait for a tool");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ToolOutput { ok: output.status.success(), text }
}
