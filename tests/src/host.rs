//! The host that netwatch runs on, and how netwatch is started there.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::inherited;
use crate::namespace::TestNamespace;
use crate::netwatch_binary::{binary, faulty_binary};
use crate::run::{FinishedRun, RunningNetwatch, StartOptions};
use crate::state::HostSnapshot;
use crate::terminal::Terminal;
use crate::wait::{eventually, wait_until};

/// An ordinary user of the host.
pub const USER: &str = "tester";
/// The user's uid and gid.
pub const USER_ID: u32 = 4242;

/// Moments of a run, as shell conditions that are true from then on: its start, its directory, its
/// link, its nftables table, the file with its resolvers, and the end of its set-up.
pub const MOMENTS: [&str; 6] = [
    "true",
    "ls -d /run/netwatch/????????",
    "ip -br link | grep '^nw'",
    "nft list tables | grep netwatch-",
    "ls /run/netwatch/????????/resolv.conf",
    "ls /run/netwatch/????????/card.json",
];

/// A [`TestNamespace`] with an ordinary user, on which netwatch can be run.
#[derive(Debug)]
pub struct TestHost {
    namespace: TestNamespace,
    faulty: bool,
}

impl Deref for TestHost {
    type Target = TestNamespace;

    fn deref(&self) -> &TestNamespace {
        &self.namespace
    }
}

impl TestHost {
    pub(crate) fn new() -> Self {
        let host = Self { namespace: TestNamespace::new("host"), faulty: false };
        add_user(&host.namespace);
        host
    }

    /// Uses the netwatch built with the feature `faults` from now on. Returns whether there is one.
    pub fn use_faulty_binary(&mut self) -> bool {
        self.faulty = faulty_binary().is_some();
        self.faulty
    }

    /// A copy of the program that every user may execute. Made by another process: a child that
    /// another test forks would hold the descriptor of a copy made here, so that it could not be
    /// executed (ETXTBSY).
    pub fn copied_binary(&self) -> PathBuf {
        let copy = self.dir().join("netwatch");
        self.sh(&format!("cp {} {}", self.binary().display(), copy.display()));
        copy
    }

    /// The program that [`TestHost::netwatch`] starts.
    pub fn binary(&self) -> PathBuf {
        if self.faulty { faulty_binary().expect("use_faulty_binary found it") } else { binary() }
    }

    /// Runs `netwatch run -- COMMAND`, with a report, to its end.
    pub fn watch(&self, command: &[&str]) -> FinishedRun {
        self.run(&[], command)
    }

    /// Runs `netwatch run FLAGS -- COMMAND`, with a report, to its end, and checks the balance of
    /// the report.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> FinishedRun {
        self.run_with(StartOptions::default(), flags, command)
    }

    /// As [`TestHost::run`], with other options.
    pub fn run_with(&self, options: StartOptions, flags: &[&str], command: &[&str]) -> FinishedRun {
        self.start_with(options, flags, command).finish()
    }

    /// Starts `netwatch run FLAGS -- COMMAND`, with a report, and returns immediately.
    pub fn start(&self, flags: &[&str], command: &[&str]) -> RunningNetwatch {
        self.start_with(StartOptions::default(), flags, command)
    }

    /// As [`TestHost::start`], with other options.
    pub fn start_with(&self, options: StartOptions, flags: &[&str], command: &[&str]) -> RunningNetwatch {
        let report = self.dir().join(format!("report-{}.json", RunningNetwatch::next_id()));
        let report_flag = report.to_str().expect("a temporary directory has a plain name").to_owned();
        let arguments = [&["run", "-j", "-o", &report_flag], flags, &["--"], command].concat();
        RunningNetwatch::start(self, options, &arguments, Some(report))
    }

    /// Starts `netwatch attach FLAGS`, with a report, and returns when it is attached.
    #[track_caller]
    pub fn attach(&self, flags: &[&str]) -> RunningNetwatch {
        let report = self.dir().join(format!("report-{}.json", RunningNetwatch::next_id()));
        let report_flag = report.to_str().expect("a temporary directory has a plain name").to_owned();
        let arguments = [&["attach", "-j", "-o", &report_flag], flags].concat();
        let running = RunningNetwatch::start(self, StartOptions::default(), &arguments, Some(report));
        running.wait_for_stderr("attached to ");
        running
    }

    /// Waits for a moment of a run, one of [`MOMENTS`] or another shell condition, or for its end.
    pub fn wait_for_moment(&self, running: &mut RunningNetwatch, moment: &str) {
        wait_until(|| self.try_sh(moment).0 || !running.is_running(), || moment.to_owned());
    }

    /// Lets no cgroup be created from now on, so that runs have none. (Hierarchies that are only
    /// hidden are mounted by netwatch itself.)
    pub fn forbid_cgroups(&self) {
        self.sh("for mount in $(findmnt -n -l -t cgroup2 -o TARGET | sort -u); do
            [ ! -e $mount/cgroup.max.descendants ] || echo 0 > $mount/cgroup.max.descendants
        done");
        let run = self.watch(&["true"]);
        assert!(run.assert_ok().stderr.contains("without a cgroup of its own"), "{run}");
    }

    /// Runs `netwatch ARGUMENTS` to its end.
    pub fn netwatch(&self, arguments: &[&str]) -> FinishedRun {
        self.netwatch_with(StartOptions::default(), arguments)
    }

    /// As [`TestHost::netwatch`], with other options.
    pub fn netwatch_with(&self, options: StartOptions, arguments: &[&str]) -> FinishedRun {
        let report = report_of(arguments).map(|file| options.dir.as_deref().unwrap_or(self.dir()).join(file));
        RunningNetwatch::start(self, options, arguments, report).finish()
    }

    /// Starts `netwatch ARGUMENTS` and returns immediately.
    pub fn start_netwatch(&self, arguments: &[&str]) -> RunningNetwatch {
        self.start_netwatch_with(StartOptions::default(), arguments)
    }

    /// As [`TestHost::start_netwatch`], with other options.
    pub fn start_netwatch_with(&self, options: StartOptions, arguments: &[&str]) -> RunningNetwatch {
        RunningNetwatch::start(self, options, arguments, None)
    }

    /// `netwatch ARGUMENTS`, not started yet, which inherits these signals ignored.
    pub fn command_ignoring(&self, signals: &[i32], arguments: &[&str]) -> Command {
        let mut command = self.command(self.binary());
        command.args(arguments);
        inherited::ignore(&mut command, signals.to_vec());
        command
    }

    /// Starts `netwatch ARGUMENTS` on a terminal of its own that is `columns` characters wide.
    pub fn on_terminal(&self, columns: u16, arguments: &[&str]) -> Terminal {
        Terminal::start(self.command_ignoring(&[], arguments), columns)
    }

    /// Waits until the recording that a run is writing contains what the test needs. netwatch
    /// refuses to read such a file, so the report is that of a copy. `file` is relative to the
    /// directory of the host.
    #[track_caller]
    pub fn wait_until_recorded(&self, file: impl AsRef<Path>, is_recorded: impl Fn(&Value) -> bool) {
        let file = self.dir().join(file);
        let script =
            "rm -rf copy; mkdir copy; cp \"$1\" \"$1-wal\" copy; exec \"$0\" report --format json copy/*.netwatch";
        let read_copy = || {
            let output =
                self.command("sh").args(["-ec", script]).arg(self.binary()).arg(&file).output().expect("start a shell");
            serde_json::from_slice::<Value>(&output.stdout).ok()
        };
        let expected = || format!("more in {}: {:#}", file.display(), read_copy().unwrap_or_default());
        wait_until(|| read_copy().is_some_and(|report| is_recorded(&report)), expected);
    }

    /// Everything on the host that netwatch could leave changed. After the end of a run the kernel
    /// removes its link in the background; this waits until such links, which are down, have
    /// disappeared.
    pub fn state(&self) -> HostSnapshot {
        let is_removing_link = || self.try_sh("ip -br link | grep '^nw[0-9a-f]*@.* DOWN '").0;
        // A link that stays becomes part of the snapshot.
        let _ = eventually(|| if is_removing_link() { Err(String::new()) } else { Ok(()) });
        HostSnapshot::capture(self)
    }

    /// Waits until the host is as it was before, because the kernel removes namespaces in the
    /// background. Panics when it never is.
    #[track_caller]
    pub fn assert_nothing_left(&self, before: &HostSnapshot) {
        if let Err(difference) = eventually(|| before.compare(&self.state())) {
            panic!("netwatch left changes on {}:\n{difference}", self.name());
        }
    }
}

/// The file that a command line writes the JSON report to (`-j -o FILE`).
fn report_of<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let own = arguments.split(|word| *word == "--").next().filter(|own| own.first() != Some(&"diff"))?;
    let file = own.windows(3).find_map(|words| (words[..2] == ["-j", "-o"]).then_some(words[2]))?;
    Some(file).filter(|file| !file.starts_with("/dev/"))
}

/// Adds the ordinary user to the host's copy of /etc, with a home directory.
fn add_user(namespace: &TestNamespace) {
    let home = namespace.dir().join("home");
    fs::create_dir(&home).expect("make a home directory");
    chown(&home, Some(USER_ID), Some(USER_ID)).expect("change the owner of the home directory");
    let append = |file: &str, line: String| {
        let path = namespace.etc().join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, text + &line).expect("write the user's entry");
    };
    append("passwd", format!("{USER}:x:{USER_ID}:{USER_ID}::{}:/bin/sh\n", home.display()));
    // sudo refuses an account without this line.
    append("shadow", format!("{USER}:*:19000:0:99999:7:::\n"));
    append("group", format!("{USER}:x:{USER_ID}:\n"));
}
