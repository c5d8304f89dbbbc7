//! One netwatch process: how it is started, while it runs, and everything that it left when it has
//! ended.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::TestHost;
use crate::report::assert_balanced;
use crate::wait::{WAIT_TIMEOUT, wait_until};

/// How netwatch is started. The default: no input, no further variables, the directory of the host,
/// `WAIT_TIMEOUT`.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// Environment variables, set in addition to those of the test.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// How long the run may take. After that it is killed and the test fails.
    pub limit: Duration,
    /// Working directory, if not that of the host.
    pub dir: Option<PathBuf>,
    /// Signals that netwatch inherits ignored, as under `nohup`.
    pub ignored: Vec<i32>,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { env: Vec::new(), stdin: Vec::new(), limit: WAIT_TIMEOUT, dir: None, ignored: Vec::new() }
    }
}

impl StartOptions {
    /// The default with these environment variables.
    pub fn env(variables: &[(&str, &str)]) -> Self {
        let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { env, ..Self::default() }
    }

    /// The default with these signals inherited ignored.
    pub fn ignoring(signals: &[i32]) -> Self {
        Self { ignored: signals.to_vec(), ..Self::default() }
    }

    /// The default with this standard input.
    pub fn stdin(text: &str) -> Self {
        Self { stdin: text.into(), ..Self::default() }
    }
}

/// A netwatch process that was started. Killed when dropped.
#[derive(Debug)]
pub struct RunningNetwatch {
    child: Child,
    started: Instant,
    limit: Duration,
    command_line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    report: Option<PathBuf>,
}

/// A netwatch process that has ended.
#[derive(Debug)]
pub struct FinishedRun {
    /// Exit code; `None` when netwatch itself was killed by a signal.
    pub code: Option<i32>,
    /// The signal by which netwatch itself was killed.
    pub signal: Option<i32>,
    /// Standard output: the command's, because `netwatch run` writes nothing there.
    pub stdout: String,
    /// Standard error of the command and of netwatch.
    pub stderr: String,
    /// The JSON report, if one was written.
    pub report: Option<Value>,
    /// Time from its start to its end.
    pub took: Duration,
    command_line: String,
}

impl RunningNetwatch {
    /// A number that is returned only once in this process.
    pub(crate) fn next_id() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn start(host: &TestHost, options: StartOptions, arguments: &[&str], report: Option<PathBuf>) -> Self {
        // Files, because a process that outlives netwatch could hold a pipe open.
        let path = |kind: &str| host.dir().join(format!("{kind}-{}", Self::next_id()));
        let (stdin, stdout, stderr) = (path("stdin"), path("stdout"), path("stderr"));
        fs::write(&stdin, &options.stdin).expect("write the input");
        let create = |path: &PathBuf| Stdio::from(File::create(path).expect("create an output file"));
        let mut command = host.command(host.binary());
        command.args(arguments).envs(options.env.iter().cloned());
        command.stdin(File::open(&stdin).expect("open the input")).stdout(create(&stdout)).stderr(create(&stderr));
        crate::inherited::ignore(&mut command, options.ignored);
        if let Some(dir) = options.dir {
            in_directory(&mut command, dir);
        }
        let command_line = format!("netwatch {}", arguments.join(" "));
        let started = Instant::now();
        let child = command.spawn().expect("start netwatch");
        Self { child, started, limit: options.limit, command_line, stdout, stderr, report }
    }

    /// Pid of netwatch.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal to netwatch, and to no other process.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the call takes no pointer. The child has not been waited for, so the pid is still
        // its own.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0, "send signal {signal}");
    }

    /// Pid of its guardian, which netwatch starts in its first milliseconds.
    #[track_caller]
    pub fn guardian(&self) -> i32 {
        let find = || guardian_of(self.pid()).ok_or_else(|| "no guardian".to_owned());
        crate::eventually(find).unwrap_or_else(|error| panic!("{error} of {}: {}", self.command_line, self.stderr()))
    }

    /// Pid of its guardian, if netwatch has started it and neither has ended.
    pub fn try_guardian(&self) -> Option<i32> {
        guardian_of(self.pid())
    }

    /// Sends SIGKILL to netwatch and its guardian at once. Both are stopped first, so that neither
    /// notices the end of the other.
    #[track_caller]
    pub fn kill_with_guardian(self) -> FinishedRun {
        let both = [self.pid(), self.guardian()];
        for signal in [libc::SIGSTOP, libc::SIGKILL] {
            for pid in both {
                // SAFETY: the call takes no pointer. netwatch has not been waited for, and is the
                // parent of its guardian.
                assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "send signal {signal} to {pid}");
            }
        }
        self.finish()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// Standard error of netwatch and the command so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Waits until the command has printed this text; then the set-up is complete. Panics when
    /// netwatch ends before.
    #[track_caller]
    pub fn wait_for_stdout(&mut self, text: &str) {
        let is_printed = || {
            // Read before the output, which is complete when netwatch has ended.
            let has_ended = self.child.try_wait().expect("wait for netwatch").is_some();
            let is_printed = read_lossy(&self.stdout).contains(text);
            assert!(
                is_printed || !has_ended,
                "{} ended without {text:?}\n{}",
                self.command_line,
                read_lossy(&self.stderr)
            );
            is_printed
        };
        wait_until(is_printed, || format!("{text:?} from {}\n{}", self.command_line, read_lossy(&self.stderr)));
    }

    /// Waits until netwatch or the command has printed this text on standard error.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str) {
        let expected = || format!("{text:?} on standard error of {}:\n{}", self.command_line, self.stderr());
        wait_until(|| self.stderr().contains(text), expected);
    }

    /// Whether netwatch has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for netwatch").is_none()
    }

    /// Waits for the end and collects everything. Panics when the run takes longer than its limit,
    /// when a requested report is missing, and when the balance of a report that it wrote is not
    /// closed.
    #[track_caller]
    pub fn finish(self) -> FinishedRun {
        let is_requested = self.report.is_some();
        let run = self.finish_early();
        let is_due = is_requested && run.signal.is_none() && !matches!(run.code, Some(125..=127));
        assert!(run.report.is_some() || !is_due, "the requested report is missing\n{run}");
        run
    }

    /// As [`RunningNetwatch::finish`], for a run that a signal may have ended before its command
    /// started: then there is no report.
    #[track_caller]
    pub fn finish_early(self) -> FinishedRun {
        let run = self.end();
        for document in run.documents() {
            assert_balanced(&document);
            let is_unknown = document["balance"]["state"] == "unknown" && document["complete"] == true;
            assert!(!is_unknown, "the interface existed to the end, so the balance must be known\n{run}");
        }
        // How a summary reports a balance that is not closed.
        assert!(!run.stderr.contains("DIFFERENCE") && !run.stdout.contains("DIFFERENCE"), "{run}");
        run
    }

    /// As [`RunningNetwatch::finish`], for a run whose interface was deleted, and with it the
    /// counters to compare with.
    #[track_caller]
    pub fn finish_without_interface(self) -> FinishedRun {
        let run = self.end();
        let document = run.report();
        assert_balanced(document);
        assert_eq!(document["balance"]["state"], "unknown", "{run}");
        run
    }

    #[track_caller]
    fn end(mut self) -> FinishedRun {
        let status = self.wait();
        let report = self.report.as_ref().and_then(|path| fs::read(path).ok());
        FinishedRun {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            report: report.and_then(|text| serde_json::from_slice(&text).ok()),
            took: self.started.elapsed(),
            command_line: self.command_line.clone(),
        }
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for netwatch") {
                return status;
            }
            if self.started.elapsed() > self.limit {
                let _ = self.child.kill();
                let (stdout, stderr) = (self.stdout(), self.stderr());
                panic!("{} did not end within {:?}:\n{stdout}\n{stderr}", self.command_line, self.limit);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for RunningNetwatch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl FinishedRun {
    /// The JSON report; panics when there is none.
    #[track_caller]
    pub fn report(&self) -> &Value {
        self.report.as_ref().unwrap_or_else(|| panic!("no report\n{self}"))
    }

    /// Every JSON report that it wrote: to a file, and to standard output.
    fn documents(&self) -> Vec<Value> {
        let printed =
            serde_json::from_str(&self.stdout).ok().filter(|printed: &Value| printed.get("balance").is_some());
        self.report.iter().cloned().chain(printed).collect()
    }

    /// Panics unless this is the exit code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Panics unless the exit code is 0.
    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        self.assert_code(0)
    }

    /// Panics unless standard error is one error, with an optional hint on a second line, that
    /// contains all these words.
    #[track_caller]
    pub fn assert_error(&self, code: i32, words: &[&str]) -> &Self {
        self.assert_code(code);
        let mut lines = self.stderr.lines().skip(1);
        let hint = lines.next();
        assert!(hint.is_none_or(|hint| hint.starts_with("hint: ")), "the second line of an error is a hint\n{self}");
        assert_eq!(lines.next(), None, "an error has at most two lines\n{self}");
        assert!(self.stderr.starts_with("netwatch: cannot "), "an error names the operation that failed\n{self}");
        for word in words {
            assert!(self.stderr.contains(word), "the error does not mention {word:?}\n{self}");
        }
        self
    }
}

impl fmt::Display for FinishedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}\nended with code {:?}, signal {:?} after {:?}",
            self.command_line, self.code, self.signal, self.took
        )?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)?;
        match &self.report {
            Some(report) => writeln!(f, "--- report\n{report:#}"),
            None => writeln!(f, "--- no report"),
        }
    }
}

/// Entering a mount namespace changes the directory, so this has to come after it: closures run in
/// the order in which they were added.
fn in_directory(command: &mut std::process::Command, dir: PathBuf) {
    use std::os::unix::process::CommandExt;
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(move || std::env::set_current_dir(&dir)) };
}

fn guardian_of(netwatch: i32) -> Option<i32> {
    let is_guardian = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `PID (name) state parent …`
        stat.split_once(" (nw-guardian) ")
            .is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&netwatch.to_string()))
    };
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_guardian)
}

fn read_lossy(path: &PathBuf) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
