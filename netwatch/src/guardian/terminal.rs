//! Restores the terminal of a netwatch that was killed while its status line was shown.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Lets the whole terminal scroll again (DECSTBM) and keeps the cursor where it is. Failure is
/// ignored: the terminal is gone.
pub(super) fn reset_scroll_region() {
    if !io::stderr().is_terminal() {
        return;
    }
    // An open file of its own, which never blocks.
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let terminal = OpenOptions::new().write(true).custom_flags(flags).open("/proc/self/fd/2");
    let _ = terminal.and_then(|mut terminal| terminal.write(b"\x1b7\x1b[r\x1b8"));
}
