//! The name of the program that a process runs, as users call it: the script instead of its
//! interpreter, and not a wrapper that only starts another program.

use super::Process;

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

/// Programs that run a script, which is an argument.
const INTERPRETERS: &[&str] = &[
    "ash", "bash", "bun", "dash", "deno", "java", "ksh", "mksh", "node", "nodejs", "perl", "php", "pypy", "pypy3",
    "python", "ruby", "sh", "zsh",
];

/// Options whose next argument is a value, and not the script.
const WITH_VALUE: &[&str] = &["-W", "-X", "-I", "-r", "--require", "-o", "-O", "-cp", "-classpath", "-p"];
/// Options after which the code itself is an argument.
const INLINE_CODE: &[&str] = &["-c", "-e", "-E", "--eval", "-lc", "-ec", "-xc"];

/// Bytes of a name that the kernel keeps (TASK_COMM_LEN without the final zero).
const MAX_COMM_BYTES: usize = 15;
/// Digits of the hash in a file name of Cargo.
const CARGO_HASH_DIGITS: usize = 16;

impl Process {
    /// The name of its program: `shop.py` for `python3 shop.py`, otherwise the name of its
    /// executable.
    pub fn program(&self) -> &str {
        let own = self.own_name();
        if is_interpreter(own)
            && let Some(script) = self.cmdline.as_deref().and_then(|words| script(words.iter().map(String::as_str)))
        {
            return file_name(script);
        }
        own
    }

    /// Whether it is a shell, `env`, `timeout` or the like, which only starts other programs.
    pub fn is_wrapper(&self) -> bool {
        WRAPPERS.contains(&self.program())
    }

    /// Whether its program is a script, which an interpreter runs.
    pub fn is_script(&self) -> bool {
        let is_interpreted = self.exe.as_deref().map(file_name).is_some_and(is_interpreter);
        is_interpreted && !is_interpreter(self.program()) && !self.is_wrapper()
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

/// Also versions: `python3.11`.
pub(super) fn is_interpreter(name: &str) -> bool {
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    INTERPRETERS.contains(&name) || INTERPRETERS.contains(&plain)
}

/// The script in the command line of an interpreter, or the module of `-m` and `-jar`.
pub(super) fn script<'a>(words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut arguments = words.skip(1);
    while let Some(argument) = arguments.next() {
        match argument {
            "-m" | "-jar" => return arguments.next(),
            option if INLINE_CODE.contains(&option) => return None,
            option if WITH_VALUE.contains(&option) => drop(arguments.next()),
            option if option.starts_with('-') => {}
            script => return Some(script),
        }
    }
    None
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
        let table: [(&str, &str, &[&str], &str); 13] = [
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
    }
}
