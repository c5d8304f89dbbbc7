//! Commands that take long show their progress on a terminal, and only there. These tests need no
//! root and no namespace.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netwatch_tests::{Terminal, binary, command, wait_until};

/// CPU time that netwatch needs for the long capture, so that it reads at least that long, however
/// busy the machine is. Far more than the half second after which progress is shown.
const LONG_READ_SECONDS: f64 = 2.5;

/// A capture with this number of empty frames: a header, and a hole in the file.
/// (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html: little-endian, microseconds,
/// 256 KiB, Ethernet)
fn capture(folder: &Path, frames: u64) -> PathBuf {
    const HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x0004_0000, 1];
    const RECORD_BYTES: u64 = 16;
    let path = folder.join(format!("{frames}.pcap"));
    let mut file = File::create(&path).unwrap();
    file.write_all(&HEADER.map(u32::to_le_bytes).concat()).unwrap();
    file.set_len(size_of_val(&HEADER) as u64 + frames * RECORD_BYTES).unwrap();
    path
}

/// A capture that this netwatch reads in [`LONG_READ_SECONDS`] on this machine.
fn long_capture(folder: &Path) -> String {
    const FRAMES: u64 = 500_000;
    let short = capture(folder, FRAMES);
    let frames = FRAMES as f64 * LONG_READ_SECONDS / seconds_of_cpu(command(binary()).arg("report").arg(&short));
    capture(folder, frames as u64).display().to_string()
}

/// The CPU time of a command that succeeds.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it, and returns its CPU time")]
fn seconds_of_cpu(command: &mut Command) -> f64 {
    let child = command.stdout(Stdio::null()).spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both point to live memory of the right type; the child was not waited for.
    let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
    assert_eq!((waited, status), (child.id() as i32, 0), "the process and its wait status");
    // SAFETY: zeroed memory is a valid rusage, and wait4 filled it.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Runs `sh -c SCRIPT NETWATCH CAPTURE` on a terminal. Returns the exit code and everything shown.
fn on_terminal(script: &str, long: &str) -> (Option<i32>, String) {
    let mut command = command("sh");
    command.args(["-c", script]).arg(binary()).arg(long).env("TERM", "xterm").env("LC_ALL", "C");
    let (status, screen) = Terminal::start(command, 80).finish();
    (status.code(), screen)
}

#[test]
fn progress_is_shown_on_a_terminal_and_cleared_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (long, out) = (long_capture(folder.path()), folder.path().join("out"));
    for (arguments, what) in [
        ("report \"$1\"", "reading, "),
        ("report --format csv \"$1\" \"$1\"", "reading 2 of 2, "),
        ("export \"$1\"", "reading, "),
        ("diff \"$1\" \"$1\"", "reading, "),
    ] {
        let (code, screen) = on_terminal(&format!("\"$0\" {arguments} > {}", out.display()), &long);
        assert_eq!(code, Some(0), "{arguments}: {screen:?}");
        assert!(screen.contains(what), "{arguments}: {screen:?}");
        // The last output clears the line, and nothing but this line was ever shown.
        let (_, after) = screen.rsplit_once("\x1b[2K").unwrap_or_else(|| panic!("{arguments}: {screen:?}"));
        assert!(after.trim().is_empty() && !screen.contains('\n'), "{arguments}: {screen:?}");
        let written = fs::read_to_string(&out).unwrap();
        assert!(!written.is_empty() && !written.contains('\x1b'), "{arguments}: {written}");
    }
}

#[test]
fn an_error_is_shown_on_a_cleared_line() {
    let folder = tempfile::tempdir().unwrap();
    let long = long_capture(folder.path());
    for command in ["report", "export"] {
        let (code, screen) = on_terminal(&format!("\"$0\" {command} \"$1\" ./absent > /dev/null"), &long);
        let (shown, error) = screen.rsplit_once("\x1b[2K").unwrap_or_else(|| panic!("{command}: {screen:?}"));
        assert!(shown.contains("reading"), "{command}: {screen:?}");
        assert_eq!(code, Some(2), "{command}: {screen:?}");
        assert!(error.trim().starts_with("netwatch: ") && error.contains("(ENOENT)"), "{command}: {screen:?}");
    }
}

#[test]
fn progress_is_not_shown_beside_output_on_the_terminal_or_with_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let long = long_capture(folder.path());
    let err = folder.path().join("err");
    // Standard output is the terminal, so standard error stays empty.
    for arguments in ["report --color never \"$1\"", "export \"$1\"", "diff \"$1\" \"$1\""] {
        let (code, screen) = on_terminal(&format!("\"$0\" {arguments} 2> {}", err.display()), &long);
        assert_eq!(code, Some(0), "{arguments}: {screen:?}");
        assert_eq!(fs::read_to_string(&err).unwrap(), "", "{arguments}");
        assert!(!screen.contains('\x1b') && !screen.contains("reading"), "{arguments}: {screen:?}");
    }
    for arguments in ["report -q \"$1\"", "diff -q \"$1\" \"$1\""] {
        let (code, screen) = on_terminal(&format!("\"$0\" {arguments} > /dev/null"), &long);
        assert_eq!((code, screen.as_str()), (Some(0), ""), "{arguments}");
    }
    // A short capture shows no progress, unless the machine was so busy that it took long.
    let short = capture(folder.path(), 10).display().to_string();
    let shows_nothing = || on_terminal("\"$0\" report \"$1\" > /dev/null", &short) == (Some(0), String::new());
    wait_until(shows_nothing, || "a short read without progress on the terminal".to_owned());
}
