//! Commands that take long show their progress on a terminal, and only there. These tests need no
//! root and no namespace.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use netwatch_tests::{Terminal, binary, command, wait_until};

/// How long netwatch reads the long capture. Far more than the half second after which progress is
/// shown, so that a machine that becomes faster after the measurement is slow enough.
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
    let started = Instant::now();
    let output = command(binary()).arg("report").arg(&short).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let frames = FRAMES as f64 * LONG_READ_SECONDS / started.elapsed().as_secs_f64();
    capture(folder, frames as u64).display().to_string()
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
