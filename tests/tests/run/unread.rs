//! Output that is not read does not keep a run: signals end it, with the exit code of the command.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};

use netwatch_tests::{TestHost, internet, wait_until};

/// A pipe that holds as much as it can, so that the next write to it blocks.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let set_flags = |flags: i32| {
        // SAFETY: the call takes no pointer.
        assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, flags) }, 0, "set flags {flags}");
    };
    set_flags(libc::O_NONBLOCK);
    fill(&mut &writer);
    set_flags(0);
    writer.flush().expect("a pipe has nothing to flush");
    (reader, writer)
}

/// Writes to a pipe that does not block, until it is full.
fn fill(pipe: &mut impl Write) {
    while pipe.write(&[b'.'; 4096]).is_ok() {}
}

/// Starts a run of a command that exits with code 7. Returns when the run is undone, and netwatch
/// only has to write its report.
fn start(host: &TestHost, flags: &[&str], stderr: impl Into<Stdio>) -> Child {
    start_as(host, &[&["run"], flags].concat(), Stdio::null(), stderr)
}

/// [`start`] for other subcommands that run a command.
fn start_as(host: &TestHost, words: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Child {
    let gate = host.gate();
    let script = format!("{}; exit 7", gate.wait());
    let arguments = [words, &["--", "sh", "-c", &script]].concat();
    let mut command = host.command_ignoring(&[], &arguments);
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().expect("start netwatch");
    wait_until(|| host.try_sh("ls /run/netwatch/????????/card.json").0, || "a run".to_owned());
    gate.open();
    wait_until(|| !host.try_sh("ls -d /run/netwatch/????????").0, || "the end of the run".to_owned());
    child
}

/// Sends TERM until the process ends, and returns its exit code.
fn terminate(child: &mut Child) -> Option<i32> {
    let mut status = child.try_wait().expect("wait for netwatch");
    assert!(status.is_none(), "netwatch ended although its output was not read: {status:?}");
    let has_ended = || {
        // SAFETY: the call takes no pointer. The child has not been waited for.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        status = child.try_wait().expect("wait for netwatch");
        status.is_some()
    };
    wait_until(has_ended, || "the end of netwatch".to_owned());
    status.and_then(|status| status.code())
}

#[test]
fn signals_end_a_run_with_a_standard_error_that_is_not_read() {
    let net = internet!();
    let (_reader, stderr) = full_pipe();
    let mut child = start(&net.host, &[], stderr);
    assert_eq!(terminate(&mut child), Some(7));
}

#[test]
fn signals_end_subcommands_whose_result_is_not_read() {
    let net = internet!();
    net.host.sh("printf '[[allow]]\\nname = \"app.example\"\\n' >netwatch.toml");
    for words in [["check"], ["ports"], ["learn"]] {
        let (_reader, stdout) = full_pipe();
        let mut child = start_as(&net.host, &words, stdout, Stdio::null());
        assert_eq!(terminate(&mut child), None, "{words:?} is ended by the signal");
    }
}

/// A full named pipe in the directory of the host, and a reader that does not read.
fn full_fifo(host: &TestHost) -> (String, File) {
    let fifo = host.dir().join("fifo");
    let path = fifo.to_str().expect("a temporary directory has a plain name").to_owned();
    host.sh(&format!("mkfifo {path}"));
    let mut options = OpenOptions::new();
    let mut reader = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&fifo).expect("open the pipe");
    fill(&mut reader);
    (path, reader)
}

#[test]
fn signals_end_a_run_with_a_report_that_is_not_read() {
    let net = internet!();
    let (path, _reader) = full_fifo(&net.host);
    let mut child = start(&net.host, &["-o", &path], Stdio::null());
    assert_eq!(terminate(&mut child), Some(7));
}

#[test]
fn a_second_signal_ends_a_run_with_a_capture_that_is_not_read() {
    let net = internet!();
    let (path, _reader) = full_fifo(&net.host);
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut running = net.host.start(&["-w", &path], &["sh", "-c", script]);
    running.wait_for_stdout("ready");
    // The first one ends the command, a later one the wait for the capture.
    let has_ended = || {
        running.signal(libc::SIGTERM);
        !running.is_running()
    };
    wait_until(has_ended, || "the end of netwatch".to_owned());
    let run = running.finish_early();
    assert!(run.assert_code(7).stderr.contains("cannot finish the capture: interrupted by a signal"), "{run}");
}
