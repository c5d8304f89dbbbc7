//! A program on a terminal of its own: what a person at a keyboard sees and can do.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

/// How long anything on a terminal may take.
const LIMIT: Duration = Duration::from_secs(15);

/// The keyboard and the screen.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts the command in a new session with this terminal as its controlling one.
    pub fn start(mut command: Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("open a terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("duplicate a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: two system calls between fork and exec.
        unsafe { command.pre_exec(take_terminal) };
        let child = command.spawn().expect("start a command on a terminal");
        drop(command);
        drop(pty.slave);
        let master = File::from(pty.master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        read_in_background(master.try_clone().expect("duplicate a descriptor"), Arc::clone(&screen));
        Self { child, master, screen }
    }

    /// Presses keys; `\x03` is ^C.
    pub fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("write to the terminal");
    }

    /// Everything shown so far, escape sequences included.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no thread panics with the lock")).into_owned()
    }

    /// Waits until this is shown.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.screen().contains(text) {
            assert!(Instant::now() < deadline, "never shown: {text:?}; the screen:\n{}", self.screen());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end: how it ended and all that was shown, where no summary may say of a difference.
    #[track_caller]
    pub fn finish(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the child") {
                // The reader gets the last bytes right after.
                thread::sleep(Duration::from_millis(50));
                let screen = self.screen();
                assert!(!screen.contains("DIFFERENCE"), "{screen}");
                return (status, screen);
            }
            assert!(Instant::now() < deadline, "did not end in time; the screen:\n{}", self.screen());
            thread::sleep(Duration::from_millis(5));
        }
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
    let took = unsafe { libc::ioctl(io::stdin().as_raw_fd(), libc::TIOCSCTTY, 0) };
    if took == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_in_background(mut master: File, screen: Arc<Mutex<Vec<u8>>>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // EIO: the last process has closed the other end.
        while let Ok(length @ 1..) = master.read(&mut buffer) {
            screen.lock().expect("no thread panics with the lock").extend_from_slice(&buffer[..length]);
        }
    });
}
