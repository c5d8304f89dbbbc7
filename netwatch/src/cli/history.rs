//! `netwatch history`: the runs that were kept.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::Path;

use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueHint};

use super::ColorChoice;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::format::escape;
use crate::format::history::{Entry, Held, State, json, table};
use crate::record::{self, Completeness, Store, Stored};
use crate::rights;
use crate::target::user::Identity;
use crate::terminal::Show;
use crate::terminal::{Spinner, complain, print, print_by};

/// What `netwatch history` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER, args_conflicts_with_subcommands = true)]
pub(super) struct HistoryArgs {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the runs that are kept, newest first
    List(ListArgs),
    /// Print the summary of a run, as after it
    Show(ShowArgs),
    /// Remove runs
    Rm(RmArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// One JSON document
    #[arg(short, long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The JSON document instead
    #[arg(short, long, env = "NETWATCH_JSON", value_parser = FalseyValueParser::new())]
    json: bool,

    /// When to colour the summary
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "NETWATCH_COLOR")]
    color: ColorChoice,

    /// Its number, its id or its file [default: the newest]
    #[arg(value_name = "RUN", value_hint = ValueHint::FilePath)]
    run: Option<String>,
}

#[derive(Debug, Args)]
struct RmArgs {
    /// All runs that are kept, but not those that still go on
    #[arg(long)]
    all: bool,

    /// Their numbers, ids or files
    #[arg(value_name = "RUN", required_unless_present = "all", conflicts_with = "all", value_hint = ValueHint::FilePath)]
    runs: Vec<String>,
}

const AFTER: &str = "\
Examples:
  netwatch history                   the runs that are kept, newest first
  netwatch history show 2            the summary of the one before the newest
  netwatch report --open 3f2a91bc    a run by its id, as a page with pictures
  netwatch history rm 7 8            remove two of them

Needs no root. `netwatch run` keeps the newest 50 runs (--keep) in $XDG_STATE_HOME/netwatch/runs or
~/.local/state/netwatch/runs of who called sudo. Exit code: 0; 2 when netwatch failed.";

pub(super) fn main(arguments: &HistoryArgs) -> Exit {
    match rights::caller().and_then(|user| act(arguments, &user)) {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&error);
            Exit::Usage
        }
    }
}

/// With the rights of who called sudo: what they keep is theirs.
fn act(arguments: &HistoryArgs, user: &Identity) -> Result<()> {
    let store = Store::of(user)?;
    rights::as_user((user.uid, user.gid), || match &arguments.action {
        None => list(&store, &arguments.list),
        Some(Action::List(arguments)) => list(&store, arguments),
        Some(Action::Show(arguments)) => show(&store, arguments),
        Some(Action::Rm(arguments)) => remove(&store, arguments),
    })
}

fn list(store: &Store, arguments: &ListArgs) -> Result<()> {
    let entries: Vec<Entry> = store.list()?.iter().map(entry).collect();
    if arguments.json {
        return print(json(&entries));
    }
    if entries.is_empty() {
        return print(format!("no run is kept in {}\n", escape(&store.folder().display().to_string())));
    }
    print(table(
        &entries,
        io::stdout().is_terminal().then(|| Show::on(&io::stdout(), false, false, ColorChoice::Never).width()),
    ))
}

fn entry(stored: &Stored) -> Entry {
    let (state, held) = match record::summary(&stored.path) {
        Ok(summary) => (state(summary.complete), Some(held(&summary))),
        Err(_) if record::is_live(&stored.path) => (State::Running, None),
        Err(error) => (State::Unreadable(error.to_string()), None),
    };
    Entry {
        number: stored.number,
        id: stored.id.clone(),
        file: stored.path.display().to_string(),
        file_bytes: stored.path.metadata().map_or(0, |data| data.len()),
        state,
        held,
    }
}

fn state(complete: Completeness) -> State {
    match complete {
        Completeness::Complete => State::Complete,
        Completeness::Incomplete { until_ns, .. } => State::Incomplete(until_ns),
    }
}

fn held(summary: &record::Summary) -> Held {
    let (run, totals) = (&summary.run, &summary.totals);
    Held {
        command: run.command.clone(),
        started_ns: run.started_ns,
        duration_ns: run.duration_ns,
        exit: run.exit,
        egress_wire_bytes: totals.egress.wire_bytes,
        ingress_wire_bytes: totals.ingress.wire_bytes,
    }
}

fn show(store: &Store, arguments: &ShowArgs) -> Result<()> {
    let waiting = Spinner::new("reading", false);
    let recorded = record::read_file(&store.find(arguments.run.as_deref())?)?;
    let show = Show::on(&io::stdout(), arguments.json, false, arguments.color);
    drop(waiting);
    print_by(|out| show.screen(&recorded.report, false, out))
}

/// All of them are found before the first is removed, so that numbers mean what the list said. One that is named twice is one.
fn remove(store: &Store, arguments: &RmArgs) -> Result<()> {
    if arguments.all {
        let mut over = store.list()?.into_iter().filter(|run| !record::is_live(&run.path));
        return over.try_for_each(|run| record::remove(&run.path));
    }
    let paths = arguments.runs.iter().map(|run| store.find(Some(run))).collect::<Result<BTreeSet<_>>>()?;
    for path in &paths {
        refuse_live(path)?;
        // What has a recording's name in its folder may be damaged; elsewhere a file has to be one.
        if path.parent() != Some(store.folder()) {
            record::check(path)?;
        }
    }
    paths.iter().try_for_each(|path| record::remove(path))
}

fn refuse_live(path: &Path) -> Result<()> {
    if record::is_live(path) {
        return Err(
            Error::said("remove", path.display().to_string(), "its run still goes on").hint("end the run first")
        );
    }
    Ok(())
}
