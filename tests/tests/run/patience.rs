//! Whatever takes long says that it goes on: on a terminal, and nowhere else. Needs no root and no namespace.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use netwatch_tests::{Terminal, binary, command};

/// Well over the half second after which it is shown, also where it is a bit faster than it was.
const LONG_S: f64 = 2.5;

/// A capture of so many empty frames: a header, and a hole in the file.
/// (https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html: little-endian, microseconds, 256 KiB, Ethernet)
fn capture(folder: &Path, frames: u64) -> PathBuf {
    const HEADER: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0x0004_0000, 1];
    const RECORD_BYTES: u64 = 16;
    let path = folder.join(format!("{frames}.pcap"));
    let mut file = File::create(&path).unwrap();
    file.write_all(&HEADER.map(u32::to_le_bytes).concat()).unwrap();
    file.set_len(size_of_val(&HEADER) as u64 + frames * RECORD_BYTES).unwrap();
    path
}

/// One that takes [`LONG_S`] to read, with this netwatch on this machine.
fn long_capture(folder: &Path) -> String {
    const FRAMES: u64 = 500_000;
    let short = capture(folder, FRAMES);
    let started = Instant::now();
    let output = command(binary()).arg("report").arg(&short).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let frames = FRAMES as f64 * LONG_S / started.elapsed().as_secs_f64();
    capture(folder, frames as u64).display().to_string()
}

/// `sh -c SCRIPT NETWATCH CAPTURE` on a terminal: the exit code, and all that was written to it.
fn on_terminal(script: &str, long: &str) -> (Option<i32>, String) {
    let mut command = command("sh");
    command.args(["-c", script]).arg(binary()).arg(long).env("TERM", "xterm").env("LC_ALL", "C");
    let (status, screen) = Terminal::start(command, 80).finish();
    (status.code(), screen)
}

#[test]
fn what_takes_long_is_shown_on_a_terminal_and_goes_again() {
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
        // The last that was written clears the line; nothing was ever written but the one line.
        let (_, after) = screen.rsplit_once("\x1b[2K").unwrap_or_else(|| panic!("{arguments}: {screen:?}"));
        assert!(after.trim().is_empty() && !screen.contains('\n'), "{arguments}: {screen:?}");
        let written = fs::read_to_string(&out).unwrap();
        assert!(!written.is_empty() && !written.contains('\x1b'), "{arguments}: {written}");
    }
}

#[test]
fn an_error_stands_by_itself() {
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
fn it_is_shown_nowhere_else_and_not_when_nothing_is_to_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let long = long_capture(folder.path());
    let err = folder.path().join("err");
    // Standard output is the terminal: what is said goes there, and standard error stays empty.
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
    // Nor for what takes no time.
    let short = capture(folder.path(), 10).display().to_string();
    let (code, screen) = on_terminal("\"$0\" report \"$1\" > /dev/null", &short);
    assert_eq!((code, screen.as_str()), (Some(0), ""));
}
