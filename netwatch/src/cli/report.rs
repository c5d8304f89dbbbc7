//! `netwatch report`: what a run, or a capture, talked to, in the format that is wanted.

mod browser;
mod format;
mod rules;
pub(super) mod source;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{Args, ValueHint};
use nix::unistd::{Gid, Uid};

use super::{By, ColorChoice};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::format::{escape, summary};
use crate::target::user::Identity;
use crate::terminal::{Output, PLAIN_WIDTH, Show, Spinner, complain, print};
use format::Format;
use rules::RulesArgs;
use source::Source;

/// What `netwatch report` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct ReportArgs {
    /// How to say it [default: as the name of -o's FILE ends; with --open html; else text]
    #[arg(long, value_enum, value_name = "FORMAT", env = "NETWATCH_FORMAT")]
    format: Option<Format>,

    /// Write it to FILE [default: standard output]
    #[arg(short, long, value_name = "FILE", env = "NETWATCH_REPORT_OUTPUT", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Open it, as a double click would; without -o it is written to netwatch-RUN.html in this directory
    #[arg(long)]
    open: bool,

    /// Columns of the text [default: the terminal's, else 100]
    #[arg(long, value_name = "COLUMNS", value_parser = clap::value_parser!(u16).range(40..), env = "NETWATCH_WIDTH")]
    width: Option<u16>,

    /// What the text lists traffic by
    #[arg(long, value_name = "WHAT", default_value = "endpoint", env = "NETWATCH_BY")]
    by: By,

    /// When to colour the text
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "NETWATCH_COLOR")]
    color: ColorChoice,

    /// Say nothing on standard error but errors
    #[arg(short, long, env = "NETWATCH_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,

    /// The run: its number, its id or its file; a capture is replayed. Several where the format has room for them [default: the newest run]
    #[arg(value_name = "RUN", value_hint = ValueHint::FilePath)]
    runs: Vec<String>,

    #[command(flatten)]
    rules: RulesArgs,
}

const AFTER: &str = "\
Examples:
  netwatch report                                        the newest run, as after it
  netwatch report --open                                 as a page with pictures, in your browser
  netwatch report -o run.html 7                          run 7 as one file that needs no network
  netwatch report --format markdown 7 >> README.md       its network requirements
  netwatch report -o flows.csv trace.pcapng              the flows of a capture, for a spreadsheet
  netwatch report --format nft 3 2 1 -o rules.nft        firewall rules from three runs
  netwatch report --format k8s --generalise              a NetworkPolicy, addresses as prefixes

Exit code: 0; 2 when there is no such run, or netwatch failed. Endings of FILE that choose a format:
.txt, .json, .ndjson or .jsonl, .csv, .md, .html, .nft. docs/report.md describes them,
docs/firewall.md the rules.";

pub(super) fn main(arguments: &ReportArgs) -> Exit {
    match report(arguments) {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&error);
            Exit::Usage
        }
    }
}

fn report(arguments: &ReportArgs) -> Result<()> {
    let format = format_of(arguments);
    if arguments.runs.len() > 1 && !format.holds_several() {
        let why = format!("{} is one document of one run", format.name());
        return Err(Error::said("write", "several runs", why).hint("name one run, or use --format ndjson"));
    }
    let rules = arguments.rules.options(format)?;
    let caller = Identity::of_sudo()?;
    let waiting = Spinner::new("reading", arguments.quiet);
    // Before the file: what cannot be read leaves no empty one.
    let sources = source::all(&arguments.runs, &waiting)?;
    waiting.now("writing");
    let default = || arguments.open.then(|| named_after(&sources, format));
    let path = arguments.output.clone().or_else(default);
    let output = path.as_deref().map(|path| Output::create(path, ids(caller.as_ref()))).transpose()?;
    let text = format.text(&sources, &look(arguments), &rules)?;
    drop(waiting);
    match output {
        Some(output) => output.write(|out| out.write_all(&text))?,
        None => print(&text)?,
    }
    match path {
        Some(path) if arguments.open => show(&path, caller.as_ref(), arguments.quiet),
        _ => Ok(()),
    }
}

fn show(path: &Path, caller: Option<&Identity>, quiet: bool) -> Result<()> {
    if !quiet {
        // A closed standard error changes nothing.
        let _ = writeln!(io::stderr(), "netwatch: opening {}", escape(&path.display().to_string()));
    }
    browser::open(path, caller)
}

fn format_of(arguments: &ReportArgs) -> Format {
    let by_name = || arguments.output.as_deref().and_then(Format::of_file);
    let otherwise = if arguments.open && arguments.output.is_none() { Format::Html } else { Format::Text };
    arguments.format.or_else(by_name).unwrap_or(otherwise)
}

/// Under sudo, files are written as who called it.
fn ids(caller: Option<&Identity>) -> (Uid, Gid) {
    caller.map_or((Uid::effective(), Gid::effective()), |caller| (caller.uid, caller.gid))
}

fn look(arguments: &ReportArgs) -> summary::Options {
    let on_screen = Show::on(&io::stdout(), false, false, arguments.color).look();
    let plain = summary::Options { width: PLAIN_WIDTH, colour: arguments.color == ColorChoice::Always, ..on_screen };
    let look = if arguments.output.is_some() { plain } else { on_screen };
    summary::Options { width: arguments.width.map_or(look.width, usize::from), by: arguments.by.into(), ..look }
}

/// In the working directory and not where temporary files are: browsers in a confinement of their own (snap, Flatpak) see no `/tmp` but theirs.
fn named_after(sources: &[Source], format: Format) -> PathBuf {
    let name: String = sources.first().map(Source::name).unwrap_or_default();
    let safe: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    format!("netwatch-{safe}.{}", format.ending()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{FromArgMatches, Parser};

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: ReportArgs,
    }

    fn format(words: &[&str]) -> Format {
        let words = std::iter::once(&"report").chain(words);
        let matches = <Typed as clap::CommandFactory>::command().get_matches_from(words);
        format_of(&Typed::from_arg_matches(&matches).expect("what was typed").arguments)
    }

    #[test]
    fn the_format_follows_from_what_was_typed() {
        assert_eq!(format(&[]), Format::Text);
        assert_eq!(format(&["--open"]), Format::Html);
        assert_eq!(format(&["-o", "a.md"]), Format::Markdown);
        assert_eq!(format(&["-o", "a.md", "--open"]), Format::Markdown);
        assert_eq!(format(&["-o", "a.JSONL"]), Format::Ndjson);
        assert_eq!(format(&["-o", "report"]), Format::Text);
        assert_eq!(format(&["-o", "a.md", "--format", "csv"]), Format::Csv);
    }
}
