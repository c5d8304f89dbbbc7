//! Work in a child process without the rights of root, for libraries that parse what the user
//! typed.

use std::fs::File;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, Uid, fork, pipe2, setgid, setgroups, setuid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::drop_capabilities;
use crate::error::{Error, Result};
use crate::target::user::Identity;

/// Runs `work` in a child process as this user, and returns its result. `what` names the work in
/// errors.
///
/// # Safety
/// The process must have a single thread. The child is a copy of the calling thread only, so a lock
/// that another thread holds would never be released.
pub(crate) unsafe fn in_child<T: Serialize + DeserializeOwned>(
    user: &Identity,
    what: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let failed = |errno| Error::os("start a process for", what, errno);
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    // SAFETY: guaranteed by the caller.
    match unsafe { fork() }.map_err(failed)? {
        ForkResult::Child => {
            drop(reader);
            // The outer stack frames belong to the work of the parent, so a panic must not unwind
            // into them.
            let done =
                catch_unwind(AssertUnwindSafe(|| report(File::from(writer), become_user(user).and_then(|()| work()))));
            let code = i32::from(!matches!(done, Ok(Ok(()))));
            // SAFETY: ends the process, without the exit handlers of the parent.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut text = Vec::new();
            let read = File::from(reader).read_to_end(&mut text);
            let status = wait_for(child).map_err(failed)?;
            read.map_err(|cause| Error::os("read the result of", what, cause))?;
            let ended = |how: String| Error::other("finish", what, format!("its process {how}"));
            match status {
                WaitStatus::Signaled(_, signal, _) => Err(ended(format!("was ended by {signal}"))),
                _ => serde_json::from_slice(&text).map_err(|_| ended("wrote no result".to_owned()))?,
            }
        }
    }
}

fn report<T: Serialize>(mut writer: File, result: Result<T>) -> std::io::Result<()> {
    writer.write_all(&serde_json::to_vec(&result)?)
}

/// Permanently gives this process the rights of the user. If that is root, the process keeps its
/// user id and loses its capabilities.
fn become_user(user: &Identity) -> Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let failed = |errno| Error::os("become user", user.name.clone(), errno);
    if !user.uid.is_root() {
        setgroups(&user.groups()?).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid)).map_err(failed)?;
    }
    drop_capabilities().map_err(failed)
}

fn wait_for(child: Pid) -> nix::Result<WaitStatus> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            status => return status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel reports about a process: its user and its capabilities.
    fn rights() -> Result<Vec<String>> {
        let status =
            std::fs::read_to_string("/proc/self/status").map_err(|cause| Error::os("read", "status", cause))?;
        let lines = status.lines().filter(|line| line.starts_with("Uid:") || line.starts_with("CapEff:"));
        Ok(lines.map(|line| line.split_whitespace().last().unwrap_or_default().to_owned()).collect())
    }

    /// Set in the process of a single test.
    const IS_ALONE: &str = "NETWATCH_TEST_IS_ALONE";

    /// Starts the test of this name in a process of its own, and returns false there only. A child
    /// has a copy of every descriptor of the process that forks it, and would keep the sockets and
    /// BPF links of other tests open.
    fn is_run_alone(test: &str) -> bool {
        if std::env::var_os(IS_ALONE).is_some() {
            return false;
        }
        let mut alone = std::process::Command::new(std::env::current_exe().expect("a program"));
        alone.args([&format!("rights::child::tests::{test}"), "--exact"]).env(IS_ALONE, "1");
        let output = alone.output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        true
    }

    #[test]
    fn a_child_has_the_rights_of_the_user_and_the_parent_keeps_its_own() {
        if !Uid::effective().is_root() {
            return println!("skipped: needs root to change the user");
        }
        if is_run_alone("a_child_has_the_rights_of_the_user_and_the_parent_keeps_its_own") {
            return;
        }
        let before = rights().expect("readable");
        for (uid, expected) in [("65534", "65534"), ("0", "0")] {
            let user = Identity::named(uid).expect("any uid is valid");
            // SAFETY: the child needs no lock of the other threads of this test.
            let child = unsafe { in_child(&user, "a test", rights) }.expect("a result");
            assert_eq!(child, [expected, "0000000000000000"]);
        }
        assert_eq!(rights().expect("readable"), before);
    }

    #[test]
    fn the_end_of_a_child_is_an_error_of_the_work() {
        if is_run_alone("the_end_of_a_child_is_an_error_of_the_work") {
            return;
        }
        let user = Identity::own().expect("a user");
        let run = |work: fn() -> Result<u32>| {
            // SAFETY: as above.
            unsafe { in_child(&user, "a test", work) }.map_err(|error| error.to_string())
        };
        assert_eq!(run(|| Ok(7)), Ok(7));
        assert_eq!(run(|| Err(Error::other("do", "it", "no"))), Err("cannot do it: no".to_owned()));
        assert_eq!(run(|| panic!("in the child")), Err("cannot finish a test: its process wrote no result".to_owned()));
        let killed = run(|| std::process::abort()).expect_err("no result");
        assert_eq!(killed, "cannot finish a test: its process was ended by SIGABRT");
    }
}
