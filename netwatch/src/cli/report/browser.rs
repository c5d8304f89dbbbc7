//! Opens a file as the user's desktop would (`--open`): the one program that netwatch starts beside the command, and only on request.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::target::user::Identity;

/// An opener that runs longer than this is the browser itself.
const SETTLED: Duration = Duration::from_secs(3);

/// By the first of the desktop's openers that is there and does not fail; under sudo as who called it.
pub(super) fn open(path: &Path, caller: Option<&Identity>) -> Result<()> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut cause = "no xdg-open or the like is installed".to_owned();
    for mut command in open::commands(&path) {
        prepare(&mut command, caller);
        let Ok(child) = command.spawn() else { continue };
        match failure(child) {
            None => return Ok(()),
            Some(why) => cause = format!("{} {why}", command.get_program().display()),
        }
    }
    Err(Error::said("open", path.display().to_string(), cause).hint("it is written: open it by hand"))
}

/// Its own process group: what the terminal says to netwatch is not for it.
fn prepare(command: &mut Command, caller: Option<&Identity>) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let Some(caller) = caller else { return };
    command.uid(caller.uid.as_raw()).gid(caller.gid.as_raw()).env("HOME", &caller.home).env("USER", &caller.name);
    let runtime = format!("/run/user/{}", caller.uid);
    if Path::new(&runtime).is_dir() {
        // Where the desktop's sockets are (XDG Base Directory Specification); sudo takes it away.
        command.env("XDG_RUNTIME_DIR", runtime);
    }
}

/// How it failed, if it did.
fn failure(mut child: Child) -> Option<String> {
    let begun = Instant::now();
    while begun.elapsed() < SETTLED {
        match child.try_wait() {
            Ok(Some(status)) => return (!status.success()).then(|| format!("failed ({status})")),
            Ok(None) => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}
