//! The command. It is looked up before anything is set up, so a typo is reported at once.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::environment::Variables;
use crate::error::Error;
use crate::exit::Exit;

/// A command ready for `execve`.
#[derive(Debug, Clone)]
pub struct Command {
    /// The command and its arguments as typed.
    pub words: Vec<OsString>,
    /// The file to execute.
    pub file: CString,
    /// `argv`.
    pub arguments: Vec<CString>,
    /// `envp`.
    pub environment: Vec<CString>,
}

/// Why a command cannot be executed, with the exit code for it (126 or 127).
#[derive(Debug)]
pub struct NotRunnable {
    /// The error.
    pub error: Error,
    /// The exit code of netwatch.
    pub exit: Exit,
}

impl Command {
    /// Looks the command up in its own PATH, as execvp(3) does.
    pub fn find(words: Vec<OsString>, variables: Variables) -> Result<Self, NotRunnable> {
        let name = words.first().cloned().unwrap_or_default();
        let path = variables.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
        let file = search(&name, path.as_deref().unwrap_or(OsStr::new("/bin:/usr/bin")))?;
        let environment = variables
            .into_iter()
            .map(|(key, value)| c_string([key.as_bytes(), value.as_bytes()].join(&b'=')))
            .collect();
        Ok(Self {
            file: c_string(file.into_os_string().into_vec()),
            arguments: words.iter().map(|word| c_string(word.as_bytes().to_vec())).collect(),
            words,
            environment,
        })
    }

    /// Sets a variable of its environment.
    pub fn set_variable(&mut self, name: &str, value: &OsStr) {
        let prefix = [name.as_bytes(), b"="].concat();
        self.environment.retain(|variable| !variable.to_bytes().starts_with(&prefix));
        self.environment.push(c_string([&prefix, value.as_bytes()].concat()));
    }

    /// The words as text.
    pub fn shown(&self) -> Vec<String> {
        self.words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }
}

/// Arguments and environment were NUL-terminated strings when netwatch got them, so they cannot
/// contain a NUL.
fn c_string(bytes: Vec<u8>) -> CString {
    CString::new(bytes).expect("an argument contains no NUL")
}

fn search(name: &OsStr, path: &OsStr) -> Result<PathBuf, NotRunnable> {
    if name.as_bytes().contains(&b'/') {
        return runnable(Path::new(name)).map(|()| PathBuf::from(name));
    }
    let mut not_executable = None;
    for dir in path.as_bytes().split(|byte| *byte == b':') {
        // An empty entry means the working directory (POSIX, XBD 8.3).
        let dir = if dir.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(dir) };
        let candidate = Path::new(dir).join(name);
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(why) if why.exit == Exit::NotExecutable => not_executable = Some(why),
            Err(_) => {}
        }
    }
    Err(not_executable.unwrap_or_else(|| NotRunnable {
        error: Error::other("run", name.to_string_lossy(), "command not found")
            .hint(format!("searched in PATH={}", path.to_string_lossy())),
        exit: Exit::NotFound,
    }))
}

fn runnable(file: &Path) -> Result<(), NotRunnable> {
    let no =
        |cause: std::io::Error, exit| NotRunnable { error: Error::os("run", file.display().to_string(), cause), exit };
    match file.metadata() {
        Ok(metadata) if metadata.is_dir() => {
            Err(no(std::io::Error::from_raw_os_error(libc::EISDIR), Exit::NotExecutable))
        }
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
            Err(no(std::io::Error::from_raw_os_error(libc::EACCES), Exit::NotExecutable))
        }
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            Err(no(error, Exit::NotFound))
        }
        Err(error) => Err(no(error, Exit::NotExecutable)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(word: &str) -> Result<Command, NotRunnable> {
        Command::find(vec![word.into()], vec![("PATH".into(), "/nowhere:/bin:/usr/bin".into())])
    }

    #[test]
    fn finds_by_path_and_by_name() {
        assert_eq!(find("sh").expect("sh exists").file.to_bytes(), b"/bin/sh");
        assert_eq!(find("/bin/sh").expect("sh exists").file.to_bytes(), b"/bin/sh");
    }

    #[test]
    fn a_variable_is_replaced() {
        let mut command = find("sh").expect("sh exists");
        for value in ["1", "2"] {
            command.set_variable("X", OsStr::new(value));
        }
        let values = command.environment.iter().filter(|variable| variable.to_bytes().starts_with(b"X"));
        assert_eq!(values.map(|value| value.to_bytes()).collect::<Vec<_>>(), [b"X=2"]);
    }

    #[test]
    fn distinguishes_missing_from_not_executable() {
        assert_eq!(find("no-such-command-here").expect_err("missing").exit, Exit::NotFound);
        assert_eq!(find("/no/such/file").expect_err("missing").exit, Exit::NotFound);
        assert_eq!(find("/etc/passwd").expect_err("not executable").exit, Exit::NotExecutable);
        assert_eq!(find("/tmp").expect_err("a directory").exit, Exit::NotExecutable);
    }
}
