//! Runs a program on a pseudoterminal of its own: the test types on its keyboard and reads its
//! screen.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::pty::{Winsize, openpty};
use nix::unistd::tcgetpgrp;

use crate::wait::wait_until;

/// The keyboard and the screen.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts the command in a new session with this terminal as its controlling one. `columns` is
    /// the width in characters.
    pub fn start(mut command: Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("open a pseudoterminal");
        let slave = || Stdio::from(pty.slave.try_clone().expect("duplicate a descriptor"));
        command.stdin(slave()).stdout(slave()).stderr(slave());
        // SAFETY: two system calls between fork and exec.
        unsafe { command.pre_exec(take_terminal) };
        let child = command.spawn().expect("start a command on a terminal");
        // Once this process has closed the slave, the reader sees the end when the last program
        // closes it.
        drop(command);
        drop(pty.slave);
        let master = File::from(pty.master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let reader = read_in_background(master.try_clone().expect("duplicate a descriptor"), Arc::clone(&screen));
        Self { child, master, screen, reader }
    }

    /// Types keys; `\x03` is ^C.
    pub fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("write to the terminal");
    }

    /// Everything shown so far, escape sequences included.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no thread panics with the lock")).into_owned()
    }

    /// Waits until the screen contains this text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(|| self.screen().contains(text), || format!("{text:?} on the screen:\n{}", self.screen()));
    }

    /// Waits until the foreground process group is led by a process with this name, and that
    /// process is not stopped.
    #[track_caller]
    pub fn wait_for_foreground(&self, name: &str) {
        let is_in_foreground = || {
            let leader = tcgetpgrp(&self.master).ok();
            let stat = leader.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok());
            // `PID (name) state …`; T is stopped.
            let rest = stat.as_deref().and_then(|stat| stat.split_once(&format!(" ({name}) "))).map(|(_, rest)| rest);
            rest.is_some_and(|rest| !rest.starts_with('T'))
        };
        wait_until(is_in_foreground, || format!("{name} in the foreground; the screen:\n{}", self.screen()));
    }

    /// Waits until the command has ended and all of its output was read. Returns how it ended and
    /// everything that it showed.
    #[track_caller]
    pub fn finish(mut self) -> (ExitStatus, String) {
        let mut status = None;
        let has_ended = || {
            status = status.or_else(|| self.child.try_wait().expect("wait for the command"));
            status.is_some() && self.reader.is_finished()
        };
        wait_until(has_ended, || "the end of a command on a terminal".to_owned());
        let screen = self.screen();
        assert!(!screen.contains("DIFFERENCE"), "the balance of a summary is not closed: {screen}");
        (status.expect("it has ended"), screen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn take_terminal() -> io::Result<()> {
    nix::unistd::setsid()?;
    // SAFETY: standard input is the terminal; the call takes no pointer.
    let result = unsafe { libc::ioctl(io::stdin().as_raw_fd(), libc::TIOCSCTTY, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_in_background(mut master: File, screen: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // EIO: the last process has closed the slave.
        while let Ok(length @ 1..) = master.read(&mut buffer) {
            screen.lock().expect("no thread panics with the lock").extend_from_slice(&buffer[..length]);
        }
    })
}
