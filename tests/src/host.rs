//! The machine netwatch runs on, and netwatch running on it.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use crate::inherited;
use crate::namespace::TestNamespace;
use crate::netwatch_binary::{binary, faulty_binary};
use crate::run::{FinishedRun, RunningNetwatch, StartOptions};
use crate::state::HostSnapshot;
use crate::terminal::Terminal;
use crate::wait::eventually;

/// An ordinary user of the host.
pub const USER: &str = "tester";
/// The user's uid and gid.
pub const USER_ID: u32 = 4242;

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

    /// From now on runs the build that can be told to fail (`NETWATCH_FAULT`); whether there is one.
    pub fn use_faulty_binary(&mut self) -> bool {
        self.faulty = faulty_binary().is_some();
        self.faulty
    }

    /// The program that [`TestHost::netwatch`] starts.
    pub fn binary(&self) -> PathBuf {
        if self.faulty { faulty_binary().expect("was there before") } else { binary() }
    }

    /// `netwatch run -- COMMAND`, with a report, to its end.
    pub fn watch(&self, command: &[&str]) -> FinishedRun {
        self.run(&[], command)
    }

    /// `netwatch run FLAGS -- COMMAND`, with a report, to its end. The report's balance is checked if there is one.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> FinishedRun {
        self.run_with(StartOptions::default(), flags, command)
    }

    /// As [`TestHost::run`], with an environment, standard input or time limit of your own.
    pub fn run_with(&self, options: StartOptions, flags: &[&str], command: &[&str]) -> FinishedRun {
        self.start_with(options, flags, command).finish()
    }

    /// Starts `netwatch run FLAGS -- COMMAND` and comes back at once.
    pub fn start(&self, flags: &[&str], command: &[&str]) -> RunningNetwatch {
        self.start_with(StartOptions::default(), flags, command)
    }

    /// As [`TestHost::start`], with options.
    pub fn start_with(&self, options: StartOptions, flags: &[&str], command: &[&str]) -> RunningNetwatch {
        let report = self.dir().join(format!("report-{}.json", RunningNetwatch::next_id()));
        let report_flag = report.to_str().expect("a temporary directory has a plain name").to_owned();
        let arguments = [&["run", "-j", "-o", &report_flag], flags, &["--"], command].concat();
        RunningNetwatch::start(self, options, &arguments, Some(report))
    }

    /// `netwatch ARGUMENTS`, to its end.
    pub fn netwatch(&self, arguments: &[&str]) -> FinishedRun {
        self.netwatch_with(StartOptions::default(), arguments)
    }

    /// As [`TestHost::netwatch`], with options.
    pub fn netwatch_with(&self, options: StartOptions, arguments: &[&str]) -> FinishedRun {
        let report = report_of(arguments).map(|file| options.dir.as_deref().unwrap_or(self.dir()).join(file));
        RunningNetwatch::start(self, options, arguments, report).finish()
    }

    /// `netwatch ARGUMENTS`, not started yet, that inherits these signals ignored.
    pub fn command_ignoring(&self, signals: &[i32], arguments: &[&str]) -> Command {
        let mut command = self.command(self.binary());
        command.args(arguments);
        inherited::ignore(&mut command, signals.to_vec());
        command
    }

    /// `netwatch ARGUMENTS` on a terminal of its own, `columns` wide.
    pub fn on_terminal(&self, columns: u16, arguments: &[&str]) -> Terminal {
        Terminal::start(self.command_ignoring(&[], arguments), columns)
    }

    /// Everything on the host that netwatch could leave changed. Links that the kernel is taking apart behind a run that has ended (they are
    /// down) get a second to go.
    pub fn state(&self) -> HostSnapshot {
        let going = || match self.try_sh("ip -br link | grep '^nw[0-9a-f]*@.* DOWN '") {
            (true, links) => Err(links),
            (false, _) => Ok(()),
        };
        // What is still there then is part of the picture.
        let _ = eventually(going);
        HostSnapshot::capture(self)
    }

    /// Panics unless the host is as it was. The kernel takes namespaces apart in the background, so it gets a second.
    #[track_caller]
    pub fn assert_nothing_left(&self, before: &HostSnapshot) {
        if let Err(difference) = eventually(|| before.compare(&self.state())) {
            panic!("netwatch left something behind on {}:\n{difference}", self.name());
        }
    }
}

/// The file that a command line has a report written to as JSON (`-j -o FILE`).
fn report_of<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let own = arguments.split(|word| *word == "--").next().filter(|own| own.first() != Some(&"diff"))?;
    let place = own.windows(3).find_map(|words| (words[..2] == ["-j", "-o"]).then_some(words[2]))?;
    Some(place).filter(|place| !place.starts_with("/dev/"))
}

/// In the host's own copy of /etc, with a home that only they can read.
fn add_user(namespace: &TestNamespace) {
    let home = namespace.dir().join("home");
    fs::create_dir(&home).expect("make a home");
    chown(&home, Some(USER_ID), Some(USER_ID)).expect("give the home away");
    let append = |file: &str, line: String| {
        let path = namespace.etc().join(file);
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, text + &line).expect("write the user's entry");
    };
    append("passwd", format!("{USER}:x:{USER_ID}:{USER_ID}::{}:/bin/sh\n", home.display()));
    // Without this line sudo takes the account for an invalid one.
    append("shadow", format!("{USER}:*:19000:0:99999:7:::\n"));
    append("group", format!("{USER}:x:{USER_ID}:\n"));
}
