//! Opens a file in the desktop's default application (`--open`). Besides the metered command this
//! is the only program that netwatch starts, and only on request.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Uid;

use crate::error::{Error, Result};
use crate::rights;
use crate::target::user::Identity;

/// An opener that is still running after this time is the application itself, and counts as a
/// success.
const OPENER_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval between checks whether the opener has exited.
const OPENER_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Tries the installed openers in order until one succeeds; under sudo as the caller.
pub(super) fn open(path: &Path) -> Result<()> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let user = rights::caller()?;
    let mut cause = "no opener such as xdg-open is installed".to_owned();
    for mut command in open::commands(&path) {
        prepare(&mut command, &user);
        let Ok(child) = command.spawn() else { continue };
        match failure(child) {
            None => return Ok(()),
            Some(failure) => cause = format!("{} {failure}", command.get_program().display()),
        }
    }
    Err(Error::other("open", path.display().to_string(), cause).hint("the report is saved; open it manually"))
}

/// The opener gets its own process group, so that signals from the terminal do not reach it.
fn prepare(command: &mut Command, user: &Identity) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if user.uid == Uid::effective() {
        return;
    }
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("HOME", &user.home).env("USER", &user.name);
    let runtime_dir = format!("/run/user/{}", user.uid);
    if Path::new(&runtime_dir).is_dir() {
        // The desktop's sockets are there (XDG Base Directory Specification); sudo removes the
        // variable.
        command.env("XDG_RUNTIME_DIR", runtime_dir);
    }
}

/// How the opener failed, or `None` if it succeeded.
fn failure(mut child: Child) -> Option<String> {
    let started = Instant::now();
    while started.elapsed() < OPENER_TIMEOUT {
        match child.try_wait() {
            Ok(Some(status)) => return (!status.success()).then(|| format!("failed ({status})")),
            Ok(None) => thread::sleep(OPENER_POLL_INTERVAL),
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}
