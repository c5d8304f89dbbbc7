//! The name of the program that a process runs, as users call it: the script instead of its
//! interpreter, and not a wrapper that only starts another program.

use super::Process;
use super::interpreter::{ParsedArguments, interpreter};

/// Programs that only start others. They are named if nothing that they started is known.
const WRAPPERS: &[&str] = &[
    "ash",
    "bash",
    "busybox",
    "chpst",
    "chroot",
    "chrt",
    "csh",
    "dash",
    "doas",
    "dumb-init",
    "env",
    "fish",
    "flock",
    "ionice",
    "ksh",
    "ltrace",
    "mksh",
    "nice",
    "nohup",
    "nsenter",
    "runuser",
    "script",
    "setpriv",
    "setsid",
    "sh",
    "stdbuf",
    "strace",
    "su",
    "sudo",
    "taskset",
    "tcsh",
    "time",
    "timeout",
    "tini",
    "unshare",
    "watch",
    "xargs",
    "zsh",
];

/// Bytes of a name that the kernel keeps (TASK_COMM_LEN without the final zero).
const MAX_COMM_BYTES: usize = 15;
/// Digits of the hash in a file name of Cargo.
const CARGO_HASH_DIGITS: usize = 16;

impl Process {
    /// The name of its program: `shop.py` for `python3 shop.py`, otherwise the name of its
    /// executable.
    pub fn program(&self) -> &str {
        let own = self.own_name();
        self.script(own).map_or(own, file_name)
    }

    /// Whether it is a shell, `env`, `timeout` or the like, which only starts other programs.
    pub fn is_wrapper(&self) -> bool {
        WRAPPERS.contains(&self.program())
    }

    /// Whether its program is a script, which an interpreter runs.
    pub fn is_script(&self) -> bool {
        // `#!/usr/bin/env bash` makes the kernel start env with the name of the script.
        let runs_scripts = |name| interpreter(name).is_some() || name == "env";
        let is_interpreted = self.exe.as_deref().map(file_name).is_some_and(runs_scripts);
        is_interpreted && interpreter(self.program()).is_none() && !self.is_wrapper()
    }

    /// The script in the command line of the interpreter with this name, or the module.
    fn script(&self, name: &str) -> Option<&str> {
        let words: Vec<&str> = self.cmdline.as_deref()?.iter().map(String::as_str).collect();
        match interpreter(name)?.parse(words.get(1..)?) {
            ParsedArguments::Script(script) => Some(script),
            ParsedArguments::Operands(operands) => operands.first().copied(),
            ParsedArguments::Code(_) | ParsedArguments::Unknown => None,
        }
    }

    /// The name that the kernel keeps, or that of the executable where the kernel cut it.
    fn own_name(&self) -> &str {
        let name = self.exe.as_deref().map(file_name);
        match name {
            Some(name) if self.comm.is_empty() || self.is_cut_from(name) => self.without_hash(name),
            _ => self.without_hash(&self.comm),
        }
    }

    fn is_cut_from(&self, name: &str) -> bool {
        self.comm.len() >= MAX_COMM_BYTES && name.starts_with(&self.comm)
    }

    /// Cargo appends a hash to the names of tests, which changes with the code: `app` for
    /// `target/debug/deps/app-0123456789abcdef`.
    fn without_hash<'a>(&self, name: &'a str) -> &'a str {
        let is_of_cargo = self.exe.as_deref().is_some_and(|exe| exe.contains("/deps/"));
        let is_hash = |hash: &str| hash.len() == CARGO_HASH_DIGITS && hash.bytes().all(|c| c.is_ascii_hexdigit());
        match name.rsplit_once('-') {
            Some((plain, hash)) if is_of_cargo && is_hash(hash) => plain,
            _ => name,
        }
    }
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(comm: &str, exe: &str, arguments: &[&str]) -> Process {
        Process {
            comm: comm.into(),
            exe: Some(exe.into()),
            cmdline: Some(arguments.iter().map(|&argument| argument.into()).collect()),
            ..Process::default()
        }
    }

    #[test]
    fn a_script_is_named_instead_of_its_interpreter() {
        let table: [(&str, &str, &[&str], &str); 17] = [
            ("python3", "/usr/bin/python3.11", &["python3", "./shop.py", "-v"], "shop.py"),
            ("python3.11", "/usr/bin/python3.11", &["python3.11", "-u", "-W", "ignore", "/opt/a/shop.py"], "shop.py"),
            ("python3", "/usr/bin/python3.11", &["python3", "-m", "pytest", "tests"], "pytest"),
            ("python3", "/usr/bin/python3.11", &["python3", "-c", "import os", "x"], "python3"),
            ("shop.py", "/usr/bin/python3.11", &["python3", "./shop.py"], "shop.py"),
            ("node", "/usr/bin/node", &["node", "server.js"], "server.js"),
            ("java", "/usr/bin/java", &["java", "-cp", "a.jar", "-jar", "b.jar"], "b.jar"),
            ("bash", "/bin/bash", &["bash", "./deploy.sh"], "deploy.sh"),
            ("sh", "/bin/dash", &["sh", "-c", "curl x"], "sh"),
            ("git-remote-http", "/usr/lib/git-core/git-remote-https", &["git-remote-https"], "git-remote-https"),
            ("curl", "/usr/bin/curl", &["curl", "x"], "curl"),
            ("bash", "/bin/bash", &["bash", "-eo", "pipefail", "./x.sh"], "x.sh"),
            ("sh", "/bin/dash", &["sh", "-e", "./x.sh"], "x.sh"),
            ("python3", "/usr/bin/python3.11", &["python3", "-uc", "import os"], "python3"),
            ("x.sh", "/usr/bin/env", &["/usr/bin/env", "bash", "./x.sh"], "x.sh"),
            ("app-0123456789a", "/a/target/debug/deps/app-0123456789abcdef", &["app"], "app"),
            ("app-0123456789a", "/opt/app-0123456789abcdef", &["app"], "app-0123456789abcdef"),
        ];
        for (comm, exe, arguments, expected) in table {
            assert_eq!(process(comm, exe, arguments).program(), expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_shell_with_a_script_is_no_wrapper() {
        assert!(process("sh", "/bin/dash", &["sh", "-c", "curl x"]).is_wrapper());
        assert!(process("timeout", "/usr/bin/timeout", &["timeout", "5", "curl"]).is_wrapper());
        assert!(!process("sh", "/bin/dash", &["sh", "./deploy.sh"]).is_wrapper());
        assert!(!process("curl", "/usr/bin/curl", &["curl"]).is_wrapper());
        assert!(Process { comm: "bash".into(), ..Process::default() }.is_wrapper(), "without its arguments");
        assert!(process("deploy.sh", "/bin/sh", &["/bin/sh", "./deploy.sh"]).is_script());
        assert!(process("python3", "/usr/bin/python3.11", &["python3", "shop.py"]).is_script());
        assert!(!process("python3", "/usr/bin/python3.11", &["python3", "-c", "import os"]).is_script());
        assert!(!process("sh", "/bin/dash", &["sh", "-c", "curl x"]).is_script());
        assert!(process("sh", "/bin/dash", &["sh", "-e", "./x.sh"]).is_script());
        assert!(process("x.sh", "/usr/bin/env", &["/usr/bin/env", "bash", "./x.sh"]).is_script());
        assert!(!process("env", "/usr/bin/env", &["env", "bash", "./x.sh"]).is_script());
    }
}
