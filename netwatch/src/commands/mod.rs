//! What each subcommand does, with the settings that `cli` made. Connects the other modules; not
//! the command line itself.

mod attach;
mod benchmark;
mod check;
mod diff;
mod export;
mod filter;
mod history;
mod learn;
mod list;
mod load;
mod policy_file;
mod policy_trust;
mod ports;
mod replay;
mod report;
pub mod run;
mod run_sockets;
mod snapshot;
mod source;
mod tail;
mod top;
mod view;

use std::fs::Metadata;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::doctor::DoctorReport;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::guardian::{OpenFileLimit, continue_guardian, ignore_file_size_signal, reset_fault_signals};
use crate::rights;
use crate::settings::{ColorChoice, Invocation, RunSettings};
use crate::terminal::{Output, PLAIN_WIDTH, Show, print, print_error};
use crate::undo::{Exclusive, RunDir, UndoRegistry};

/// Runs a subcommand and prints its error, if it fails.
pub fn execute(invocation: Invocation) -> Exit {
    if let Err(error) = reset_fault_signals() {
        print_error(&error);
    }
    match invocation {
        Invocation::Run(settings) => run(*settings),
        Invocation::Attach(settings) if !settings.in_view => attach::attach(*settings),
        other => ignore_file_size_signal().and_then(|()| execute_other(other)).unwrap_or_else(|error| {
            print_error(&error);
            Exit::Error
        }),
    }
}

/// Everything but `run` and `attach`: `run` restores for its command the signals that it inherits.
fn execute_other(invocation: Invocation) -> Result<Exit> {
    match invocation {
        Invocation::Run(settings) => Ok(run(*settings)),
        Invocation::Attach(settings) if settings.in_view => top::run_in_view(settings.session.color),
        Invocation::Attach(settings) => Ok(attach::attach(*settings)),
        Invocation::Doctor => Ok(doctor()),
        Invocation::Clean => clean(),
        Invocation::Replay(settings) => replay::replay(&settings),
        Invocation::Tail(settings) => tail::tail(&settings),
        Invocation::Top(settings) => top::top(&settings),
        Invocation::Report(settings) => report::report(&settings),
        Invocation::Ports(settings) => ports::ports(&settings),
        Invocation::Check(settings) => check::check(&settings),
        Invocation::Learn(settings) => learn::learn(&settings),
        Invocation::Diff(settings) => diff::diff(&settings),
        Invocation::Bench(settings) => benchmark::bench(&settings),
        Invocation::Compare(settings) => benchmark::compare(&settings),
        Invocation::List { json } => list::list(json),
        Invocation::History(settings) => history::history(&settings),
        Invocation::Export(settings) => export::export(&settings),
        Invocation::Print(text) => print(text).map(|()| Exit::Success),
        #[cfg(feature = "faults")]
        Invocation::Faults => Ok(crate::faults::list()),
    }
}

fn run(settings: RunSettings) -> Exit {
    if settings.in_view {
        return top::run_in_view(settings.session.color).unwrap_or_else(|error| {
            print_error(&error);
            Exit::Failed
        });
    }
    match run::RunPlan::make(settings) {
        Ok(mut plan) => run::run(&mut plan),
        Err(refusal) => {
            print_error(&refusal.error);
            refusal.exit
        }
    }
}

/// `netwatch doctor`: prints one line for each requirement of `run`. Exits with [`Exit::Negative`]
/// if `run` would fail.
fn doctor() -> Exit {
    // As a run does. A limit that is too low is a result of a check.
    let _is_checked = OpenFileLimit::raise();
    let report = DoctorReport::examine();
    // If standard output is closed, the exit code still reports the result.
    let _ = write!(io::stdout().lock(), "{report}");
    if report.would_fail() { Exit::Negative } else { Exit::Success }
}

/// `netwatch clean`: removes what killed runs left on the host, and continues stopped guardians,
/// which undo their runs themselves. Exits with [`Exit::Negative`] if something remains.
fn clean() -> Result<Exit> {
    let live = RunDir::live()?;
    for run in &live {
        if continue_guardian(run)? {
            eprintln!("netwatch: the guardian of run {} was stopped; it continues", run.id);
        }
    }
    let lock = Exclusive::take()?;
    match undo_steps().undo_dead_runs(&lock) {
        Ok(runs) => {
            eprintln!("netwatch: {}", cleaned(runs, live.len()));
            Ok(Exit::Success)
        }
        Err(error) => {
            print_error(&error);
            Ok(Exit::Negative)
        }
    }
}

fn cleaned(runs: usize, live: usize) -> String {
    let cleaned = match runs {
        0 => "nothing to clean up".into(),
        1 => "cleaned up after 1 run".into(),
        n => format!("cleaned up after {n} runs"),
    };
    match live {
        0 => cleaned,
        1 => cleaned + "; 1 run is in progress",
        n => format!("{cleaned}; {n} runs are in progress"),
    }
}

/// Opens the file of `-o` with the rights of the caller of sudo, who will own it; none for `-`,
/// which is standard output. Fails if it is
/// one of the files that are read, which it would replace.
fn open_output(path: Option<&Path>, inputs: &[String]) -> Result<Option<Output>> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(None) };
    inputs.iter().try_for_each(|input| refuse_input(path, Path::new(input)))?;
    let user = rights::caller()?;
    Output::create(path, (user.uid, user.gid)).map(Some)
}

/// An output that is an input would destroy what is being read.
fn refuse_input(output: &Path, input: &Path) -> Result<()> {
    match (file_of(output, "/dev/stdout"), file_of(input, "/dev/stdin")) {
        (Some(one), Some(other)) if (one.dev(), one.ino()) == (other.dev(), other.ino()) => {
            let cause = "the same file is read";
            Err(Error::other("write", output.display().to_string(), cause).hint("choose another file"))
        }
        _ => Ok(()),
    }
}

/// The regular file of a path; - is that of `standard`.
fn file_of(path: &Path, standard: &str) -> Option<Metadata> {
    let path = if path == Path::new("-") { Path::new(standard) } else { path };
    // A file that cannot be accessed is an error when it is opened.
    path.metadata().ok().filter(Metadata::is_file)
}

/// Columns of plain text: those of the terminal, if standard output is one and nothing is written
/// to a file.
fn plain_width(has_file: bool) -> usize {
    if has_file { PLAIN_WIDTH } else { Show::on(&io::stdout(), false, false, ColorChoice::Never).width() }
}

/// Writes the whole text to the file of `-o`, or to standard output without one.
fn write_result(output: Option<Output>, text: &[u8]) -> Result<()> {
    match output {
        Some(output) => output.write(|out| out.write_all(text)),
        None => print(text),
    }
}

/// How every change that a run makes on the host is undone.
pub(crate) fn undo_steps() -> UndoRegistry {
    let mut steps = crate::host::undo_steps();
    crate::target::register_undo_steps(&mut steps);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_is_read_is_refused_and_keeps_its_content() {
        let dir = tempfile::tempdir().expect("a directory");
        let [run, other, link] = ["run.json", "other", "link"].map(|name| dir.path().join(name));
        std::fs::write(&run, "{}").expect("written");
        std::os::unix::fs::symlink(&run, &link).expect("linked");
        let inputs = ["1".to_owned(), run.display().to_string()];
        for output in [&run, &link] {
            let error = open_output(Some(output), &inputs).expect_err("the input").to_string();
            assert!(error.contains("the same file is read"), "{error}");
        }
        assert!(open_output(Some(&other), &inputs).is_ok_and(|output| output.is_some()));
        assert!(open_output(Some(Path::new("/dev/null")), &["/dev/null".to_owned()]).is_ok(), "no regular file");
        assert_eq!(std::fs::read_to_string(&run).expect("read"), "{}");
    }
}
