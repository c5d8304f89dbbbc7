//! One run of netwatch: started, waited for with a time limit, and everything it said.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::TestHost;
use crate::report::assert_balanced;
use crate::wait::WAIT_TIMEOUT;

/// How a program is started. The default: no input, an environment as it is, twenty seconds.
#[derive(Debug, Clone)]
pub struct StartOptions {
    /// Variables set in addition.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Vec<u8>,
    /// After this it is killed, and the test fails.
    pub limit: Duration,
    /// Working directory; otherwise that of the namespace.
    pub dir: Option<PathBuf>,
    /// Signals that it inherits ignored, as under `nohup`; otherwise none.
    pub ignored: Vec<i32>,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { env: Vec::new(), stdin: Vec::new(), limit: WAIT_TIMEOUT, dir: None, ignored: Vec::new() }
    }
}

impl StartOptions {
    /// With these environment variables.
    pub fn env(variables: &[(&str, &str)]) -> Self {
        let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { env, ..Self::default() }
    }

    /// With these signals ignored from the start.
    pub fn ignoring(signals: &[i32]) -> Self {
        Self { ignored: signals.to_vec(), ..Self::default() }
    }

    /// With this standard input.
    pub fn stdin(text: &str) -> Self {
        Self { stdin: text.into(), ..Self::default() }
    }
}

/// A netwatch that runs. Killed (by its pid) when dropped.
#[derive(Debug)]
pub struct RunningNetwatch {
    child: Child,
    started: Instant,
    deadline: Instant,
    shown: String,
    stdout: PathBuf,
    stderr: PathBuf,
    report: Option<PathBuf>,
}

/// A netwatch that has ended.
#[derive(Debug)]
pub struct FinishedRun {
    /// Exit code; `None` when a signal killed netwatch itself.
    pub code: Option<i32>,
    /// The signal that killed netwatch itself.
    pub signal: Option<i32>,
    /// The command's output (netwatch says nothing there).
    pub stdout: String,
    /// The command's and netwatch's.
    pub stderr: String,
    /// The JSON document, if one was written.
    pub report: Option<Value>,
    /// How long it took.
    pub took: Duration,
    shown: String,
}

impl RunningNetwatch {
    /// A number that nothing else in this process gets.
    pub(crate) fn next_id() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn start(host: &TestHost, options: StartOptions, arguments: &[&str], report: Option<PathBuf>) -> Self {
        // Files, not pipes: a process that outlives netwatch could hold a pipe open.
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
        let started = Instant::now();
        let child = command.spawn().expect("start netwatch");
        let shown = format!("netwatch {}", arguments.join(" "));
        Self { child, started, deadline: started + options.limit, shown, stdout, stderr, report }
    }

    /// netwatch's pid.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal to netwatch and to nobody else.
    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call; the child has not been waited for, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0, "send signal {signal}");
    }

    /// Its guardian's pid; there is one from the first milliseconds on.
    #[track_caller]
    pub fn guardian(&self) -> i32 {
        let find = || guardian_of(self.pid()).ok_or_else(|| "no guardian".to_owned());
        crate::eventually(find).unwrap_or_else(|why| panic!("{why} of {}: {}", self.shown, self.stderr()))
    }

    /// SIGKILL for netwatch and its guardian at once: both are stopped first, so that neither sees the other die.
    #[track_caller]
    pub fn kill_with_guardian(self) -> FinishedRun {
        let both = [self.pid(), self.guardian()];
        for signal in [libc::SIGSTOP, libc::SIGKILL] {
            for pid in both {
                // SAFETY: a plain system call; netwatch has not been waited for, and is its guardian's parent.
                assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "send signal {signal} to {pid}");
            }
        }
        self.finish()
    }

    /// What the command has printed so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// What netwatch and the command have said so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Waits until the command has printed this; its set-up is over then.
    #[track_caller]
    pub fn wait_for_stdout(&mut self, text: &str) {
        while !self.stdout().contains(text) {
            let ended = self.child.try_wait().expect("wait for netwatch");
            assert!(
                ended.is_none() || self.stdout().contains(text),
                "{} ended without: {text}\n{}",
                self.shown,
                self.stderr()
            );
            assert!(Instant::now() < self.deadline, "{} never printed: {text}\n{}", self.shown, self.stderr());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until netwatch or the command has printed this on standard error.
    #[track_caller]
    pub fn wait_for_stderr(&self, text: &str) {
        let printed = || if self.stderr().contains(text) { Ok(()) } else { Err(self.stderr()) };
        crate::eventually(printed)
            .unwrap_or_else(|stderr| panic!("{} never printed {text:?} on standard error:\n{stderr}", self.shown));
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait for netwatch").is_none()
    }

    /// Waits for its end and collects everything. Panics when it takes longer than the limit, when a document that was asked for is not there, and
    /// when the balance of one that it wrote is not closed.
    #[track_caller]
    pub fn finish(self) -> FinishedRun {
        let is_asked_for = self.report.is_some();
        let run = self.finish_early();
        let is_due = is_asked_for && run.signal.is_none() && !matches!(run.code, Some(125..=127));
        assert!(run.report.is_some() || !is_due, "a report was asked for\n{run}");
        run
    }

    /// As [`Running::finish`], of a run that may have been ended by a signal before its command ran: then there is nothing to report.
    #[track_caller]
    pub fn finish_early(self) -> FinishedRun {
        let run = self.end();
        for document in run.documents() {
            assert_balanced(&document);
            let is_unknown = document["balance"]["state"] == "unknown" && document["complete"] == true;
            assert!(!is_unknown, "its interface was there to the end\n{run}");
        }
        // A summary says the same.
        assert!(!run.stderr.contains("DIFFERENCE") && !run.stdout.contains("DIFFERENCE"), "{run}");
        run
    }

    /// As [`Running::finish`], of a run whose interface was deleted under it: its counters are gone.
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
            shown: self.shown.clone(),
        }
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for netwatch") {
                return status;
            }
            if Instant::now() > self.deadline {
                let _ = self.child.kill();
                panic!("{} did not end in time; it said:\n{}\n{}", self.shown, self.stdout(), self.stderr());
            }
            thread::sleep(Duration::from_millis(1));
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
    /// The JSON document; panics with everything known when there is none.
    #[track_caller]
    pub fn report(&self) -> &Value {
        self.report.as_ref().unwrap_or_else(|| panic!("no report\n{self}"))
    }

    /// Every document that it wrote: the report of a run, and what another command printed.
    fn documents(&self) -> Vec<Value> {
        let printed =
            serde_json::from_str(&self.stdout).ok().filter(|printed: &Value| printed.get("balance").is_some());
        self.report.iter().cloned().chain(printed).collect()
    }

    /// Panics unless it ended with this exit code.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Panics unless it ended well.
    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        self.assert_code(0)
    }

    /// Panics unless standard error is one error, with an optional hint on a second line, that contains all these words.
    #[track_caller]
    pub fn assert_error(&self, code: i32, words: &[&str]) -> &Self {
        self.assert_code(code);
        let mut lines = self.stderr.lines().skip(1);
        let hint = lines.next();
        assert!(hint.is_none_or(|hint| hint.starts_with("hint: ")), "the second line of an error is a hint\n{self}");
        assert_eq!(lines.next(), None, "an error has at most two lines\n{self}");
        assert!(self.stderr.starts_with("netwatch: cannot "), "an error says which operation failed\n{self}");
        for word in words {
            assert!(self.stderr.contains(word), "the error does not mention {word:?}\n{self}");
        }
        self
    }
}

impl fmt::Display for FinishedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nended with code {:?}, signal {:?} after {:?}", self.shown, self.code, self.signal, self.took)?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)?;
        match &self.report {
            Some(report) => writeln!(f, "--- report\n{report:#}"),
            None => writeln!(f, "--- no report"),
        }
    }
}

/// Entering a namespace's mounts changes the directory, so this has to come after it: closures run in the order they were added.
fn in_directory(command: &mut std::process::Command, dir: PathBuf) {
    use std::os::unix::process::CommandExt;
    // SAFETY: one system call between fork and exec.
    unsafe { command.pre_exec(move || std::env::set_current_dir(&dir)) };
}

fn guardian_of(netwatch: i32) -> Option<i32> {
    let is_it = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `PID (name) state parent …`
        stat.split_once(" (nw-guardian) ")
            .is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(&netwatch.to_string()))
    };
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(is_it)
}

fn read_lossy(path: &PathBuf) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
