//! For tests: network namespaces, each with a thread that lives in it. Gone when dropped.

use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in a fresh network namespace.
pub struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Namespace {
    /// `None`, and a line that says why, without root.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root to make network namespaces");
            return None;
        }
        let (jobs, queue) = channel::<Job>();
        let (ready, started) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(nix::unistd::gettid().as_raw()).expect("the test waits");
            queue.iter().for_each(|job| job());
        });
        let tid = started.recv().expect("the thread answers");
        let namespace = Self { jobs: Some(jobs), thread: Some(thread), tid };
        namespace.sh("ip link set lo up");
        Some(namespace)
    }

    /// Runs a closure inside and returns what it returns; a panic inside is a panic here.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = done.send(outcome);
        };
        self.jobs.as_ref().expect("alive").send(Box::new(job)).expect("the thread lives");
        result.recv().expect("an answer").unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The id to move interfaces to it with `ip link set … netns`.
    pub fn id(&self) -> i32 {
        self.tid
    }

    /// What a shell script prints that must succeed.
    pub fn sh(&self, script: &str) -> String {
        let (success, output) = self.try_sh(script);
        assert!(success, "{script}\n{output}");
        output
    }

    /// Whether a shell script succeeds, and what it prints.
    pub fn try_sh(&self, script: &str) -> (bool, String) {
        let script = script.to_owned();
        self.run(move || {
            let output = Command::new("sh").arg("-ec").arg(&script).output().expect("a shell");
            let text = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&text).into_owned())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
