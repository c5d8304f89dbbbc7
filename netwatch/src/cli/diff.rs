//! `netwatch diff`: what differs between runs, as a gate for releases.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::report::source::{self, Source};
use crate::diff::{How, Kind, Options, compare};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::format::diff::{Format, write};
use crate::report::Report;
use crate::rights;
use crate::terminal::Output;
use crate::terminal::{Spinner, complain, print};

/// What `netwatch diff` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct DiffArgs {
    /// How to say it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = As::Text)]
    format: As,

    /// JSON: the same as --format json
    #[arg(short, long, conflicts_with = "format")]
    json: bool,

    /// Write it to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Say nothing: the exit code is the answer (a file is written all the same)
    #[arg(short, long)]
    quiet: bool,

    /// Numbers differ when they do by more than this factor (and by --min-bytes or --min-count)
    #[arg(long, value_name = "FACTOR", default_value_t = 2.0, value_parser = factor)]
    threshold: f64,

    /// Bytes on the wire by which they have to differ at least
    #[arg(long, value_name = "BYTES", default_value_t = 10_000)]
    min_bytes: u64,

    /// Connections, questions, processes or attempts by which they have to differ at least
    #[arg(long, value_name = "N", default_value_t = 10)]
    min_count: u64,

    /// Compare only these
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    only: Vec<What>,

    /// Leave these differences out
    #[arg(long, value_enum, value_name = "HOW", value_delimiter = ',')]
    ignore: Vec<Way>,

    /// The runs to compare with, by number, id or file (captures too); several with commas are taken together
    #[arg(value_name = "OLD[,OLD…]", value_hint = ValueHint::FilePath)]
    old: String,

    /// The runs to be compared
    #[arg(value_name = "NEW[,NEW…]", value_hint = ValueHint::FilePath)]
    new: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum As {
    /// For a person
    Text,
    /// For a pull request
    #[value(alias = "md")]
    Markdown,
    /// For programs
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Endpoints,
    Ports,
    Protocols,
    Names,
    Processes,
    Failures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Appeared,
    Vanished,
    Changed,
}

const AFTER: &str = "\
Examples:
  netwatch diff 2 1                                   the newest run beside the one before
  netwatch diff base.netwatch 1 --format markdown     for a pull request
  netwatch diff 4,3,2 1                               three runs taken together: what varies is none
  netwatch diff --only endpoints --ignore vanished base.netwatch 1
                                                      a gate: nobody new may be talked to

Exit code: 0 they are the same, 1 they differ, 2 trouble. Addresses behind one name are no
difference, ephemeral ports never are. docs/diff.md says what is compared, and how.";

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor.is_finite() && factor >= 1.0 => Ok(factor),
        _ => Err("a number from 1 on".to_owned()),
    }
}

pub(super) fn main(arguments: &DiffArgs) -> Exit {
    match diff(arguments) {
        Ok(true) => Exit::Success,
        Ok(false) => Exit::No,
        Err(error) => {
            complain(&error);
            Exit::Usage
        }
    }
}

/// Whether they are the same.
fn diff(arguments: &DiffArgs) -> Result<bool> {
    let waiting = Spinner::new("reading", arguments.quiet);
    let (old, new) = (sources(&arguments.old, &waiting)?, sources(&arguments.new, &waiting)?);
    waiting.now("comparing");
    let difference = compare(&reports(&old), &reports(&new), &options(arguments));
    let user = rights::caller()?;
    let output = arguments.output.as_deref().map(|path| Output::create(path, (user.uid, user.gid))).transpose()?;
    let mut text = Vec::new();
    write(&difference, format(arguments), &mut text).map_err(|error| Error::os("write", "the difference", error))?;
    drop(waiting);
    match output {
        Some(output) => output.write(|out| out.write_all(&text))?,
        None if arguments.quiet => {}
        None => print(&text)?,
    }
    Ok(difference.is_same())
}

/// A file whose name has a comma is meant as it is.
fn sources(typed: &str, waiting: &Spinner) -> Result<Vec<Source>> {
    let selectors: Vec<String> = match std::path::Path::new(typed).exists() {
        true => vec![typed.to_owned()],
        false => typed.split(',').map(str::to_owned).collect(),
    };
    if selectors.iter().any(String::is_empty) {
        return Err(Error::said("compare", typed, "there is nothing between the commas").hint("name a run, or a file"));
    }
    source::all(&selectors, waiting)
}

fn reports(sources: &[Source]) -> Vec<&Report> {
    sources.iter().map(|source| &source.report).collect()
}

fn format(arguments: &DiffArgs) -> Format {
    match arguments.format {
        _ if arguments.json => Format::Json,
        As::Text => Format::Text,
        As::Markdown => Format::Markdown,
        As::Json => Format::Json,
    }
}

fn options(arguments: &DiffArgs) -> Options {
    let kind = |what: &What| match what {
        What::Endpoints => Kind::Endpoints,
        What::Ports => Kind::Ports,
        What::Protocols => Kind::Protocols,
        What::Names => Kind::Names,
        What::Processes => Kind::Processes,
        What::Failures => Kind::Failures,
    };
    let ignored = |how: &How| {
        let way = match how {
            How::Appeared => Way::Appeared,
            How::Vanished => Way::Vanished,
            How::Changed => Way::Changed,
        };
        arguments.ignore.contains(&way)
    };
    let only: Vec<Kind> = arguments.only.iter().map(kind).collect();
    Options {
        factor: arguments.threshold,
        min_bytes: arguments.min_bytes,
        min_count: arguments.min_count,
        only: if only.is_empty() { Kind::ALL.into() } else { only },
        hows: How::ALL.into_iter().filter(|how| !ignored(how)).collect(),
    }
}
