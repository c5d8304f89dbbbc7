//! The command line: what was typed becomes the settings of a subcommand. The only module that uses
//! clap; it runs nothing.

mod attach;
mod benchmark;
mod capture;
mod check;
mod diff;
mod display;
mod export;
mod fleet;
mod history;
mod learn;
mod manual;
mod needs;
mod ports;
mod replay;
mod report;
mod rules;
mod run;
mod session;
mod source;
mod tail;
mod top;

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::error::Result;
use crate::exit::Exit;
use crate::format::{escape, summary};
use crate::settings::{ColorChoice, Invocation};
use crate::terminal::{print_error, print_message};

/// Report exactly what a program talks to.
///
/// netwatch runs a command in its own network namespace and counts every packet of every flow in
/// the kernel. Other traffic on the machine is ignored, and the totals are reconciled with the
/// interface to the last byte.
#[derive(Debug, Parser)]
#[command(name = "netwatch", version, max_term_width = 100, after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: CommandArgs,
}

const EXAMPLES: &str = "\
Examples:
  sudo netwatch run -- curl -sS https://app.example/     what does this download talk to?
  sudo netwatch run -- bash                              meter a shell until it exits
  sudo netwatch run -j -o net.json -- cargo test         the report as JSON, for CI
  sudo netwatch run -u root --publish 8080:80 -- nginx   a server that accepts outside connections
  sudo netwatch attach --container shop                  what a container talks to that runs already
  netwatch replay trace.pcapng                           the same report for a capture
  sudo netwatch tail                                     the packets of a run in progress, live
  sudo netwatch top                                      a run in progress, as a live view
  netwatch report --open                                 the newest run in your browser
  netwatch report --open --baseline 2                    the same, compared with the run before
  netwatch history                                       the recorded runs
  netwatch export -o flows.parquet                       the flows of the newest run, for DuckDB
  netwatch ports                                         what to open in a firewall for it
  sudo netwatch check -- npm ci                          does it reach only what is allowed?
  netwatch diff 2 1                                      what changed since the run before?
  sudo netwatch bench -- curl -sS https://app.example/   ten runs: duration, bytes, CPU, RTT
  sudo netwatch doctor                                   can this machine run netwatch?

Topics of `netwatch help`: reference (exit codes, files, environment), formats, firewall, checking,
policy, summary, json, recording, reports, differences, attaching, replaying, thresholds, packets,
capture, events, live, benchmark, soak, metrics, ipfix, otlp, fleet, ci, install, security,
accuracy, tutorial, limits.
`netwatch help run` describes every flag.";

#[derive(Debug, Subcommand)]
enum CommandArgs {
    /// Run a command in its own network namespace and report its traffic
    Run(Box<run::RunArgs>),
    /// Meter a container, network namespace or interface that exists already
    Attach(Box<attach::AttachArgs>),
    /// Report the traffic in a capture file
    Replay(Box<replay::ReplayArgs>),
    /// Print or write the packets of a run in progress
    Tail(Box<tail::TailArgs>),
    /// Show a run in progress: endpoints, connections, processes, failures
    Top(top::TopArgs),
    /// Generate a report from a recorded run
    Report(Box<report::ReportArgs>),
    /// List the ports, names and addresses that a program needs
    Ports(Box<ports::PortsArgs>),
    /// Check whether a program reached only what a policy allows
    Check(Box<check::CheckArgs>),
    /// Print the smallest policy that allows what a program reached
    Learn(Box<learn::LearnArgs>),
    /// Compare recorded runs and report what changed
    Diff(Box<diff::DiffArgs>),
    /// Run a command repeatedly and measure its traffic, time and CPU
    Bench(Box<benchmark::BenchArgs>),
    /// Compare two commands, or recorded runs, with statistics
    Compare(Box<benchmark::CompareArgs>),
    /// Check whether this machine can run netwatch
    Doctor,
    /// List the runs in progress
    List {
        /// Write one JSON document instead of a table
        #[arg(short, long)]
        json: bool,
    },
    /// List, show or remove recorded runs
    History(history::HistoryArgs),
    /// Export flows or time series from recorded runs as Parquet or CSV
    Export(export::ExportArgs),
    /// Remove what killed runs left on the host
    Clean,
    /// Print a shell completion script
    Completions {
        /// Shell to complete in
        shell: Shell,
    },
    /// Print a man page, or the list of man pages
    #[command(after_help = manual::AFTER)]
    Man {
        /// Subcommand, topic or page: `run`, `files`, `netwatch-run.1`
        page: Option<String>,
    },
    /// Show the help of a subcommand, or a topic of the manual
    #[command(after_help = manual::topics())]
    Help {
        /// Subcommand or topic [default: netwatch itself]
        #[arg(value_name = "TOPIC", value_parser = manual::TopicParser, hide_possible_values = true)]
        words: Vec<String>,
    },
    /// List the set-up steps that a test build can make fail
    #[cfg(feature = "faults")]
    #[command(name = "__faults", hide = true)]
    Faults,
}

impl CommandArgs {
    fn invocation(self) -> Result<Invocation> {
        Ok(match self {
            Self::Run(arguments) => Invocation::Run(Box::new(arguments.settings()?)),
            Self::Attach(arguments) => Invocation::Attach(Box::new(arguments.settings()?)),
            Self::Replay(arguments) => Invocation::Replay(Box::new(arguments.settings()?)),
            Self::Tail(arguments) => Invocation::Tail(Box::new(arguments.settings()?)),
            Self::Top(arguments) => Invocation::Top(arguments.settings()),
            Self::Report(arguments) => Invocation::Report(Box::new(arguments.settings()?)),
            Self::Ports(arguments) => Invocation::Ports(Box::new(arguments.settings()?)),
            Self::Check(arguments) => Invocation::Check(Box::new(arguments.settings()?)),
            Self::Learn(arguments) => Invocation::Learn(Box::new(arguments.settings()?)),
            Self::Diff(arguments) => Invocation::Diff(arguments.settings()?),
            Self::Bench(arguments) => Invocation::Bench(Box::new(arguments.settings()?)),
            Self::Compare(arguments) => Invocation::Compare(Box::new(arguments.settings()?)),
            Self::Doctor => Invocation::Doctor,
            Self::List { json } => Invocation::List { json },
            Self::History(arguments) => Invocation::History(arguments.settings()),
            Self::Export(arguments) => Invocation::Export(arguments.settings()?),
            Self::Clean => Invocation::Clean,
            Self::Completions { shell } => Invocation::Print(completions(shell)),
            Self::Man { page } => Invocation::Print(manual::page(page.as_deref())?.into_bytes()),
            Self::Help { words } => Invocation::Print(manual::help(&words)?.into_bytes()),
            #[cfg(feature = "faults")]
            Self::Faults => Invocation::Faults,
        })
    }
}

/// The option `--color`.
#[derive(Debug, Args)]
struct ColorArgs {
    /// When to use color
    #[arg(long, value_name = "WHEN", default_value = "auto", env = "NETWATCH_COLOR")]
    color: ColorArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ColorArg {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl From<ColorArgs> for ColorChoice {
    fn from(arguments: ColorArgs) -> Self {
        match arguments.color {
            ColorArg::Auto => Self::Auto,
            ColorArg::Always => Self::Always,
            ColorArg::Never => Self::Never,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ByArg {
    /// A table of endpoints
    Endpoint,
    /// A tree of processes
    Process,
}

impl From<ByArg> for summary::GroupBy {
    fn from(by: ByArg) -> Self {
        match by {
            ByArg::Endpoint => Self::Endpoint,
            ByArg::Process => Self::Process,
        }
    }
}

/// What clap finds in the words, with the flags that they need.
fn matches(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(words)?;
    match needs::missing(&command, &matches) {
        Some(missing) => {
            command.build();
            let name = matches.subcommand_name().unwrap_or_default();
            let mut command = command.find_subcommand(name).cloned().unwrap_or(command);
            Err(command.error(ErrorKind::MissingRequiredArgument, missing))
        }
        None => Ok(matches),
    }
}

fn parsed(matches: &ArgMatches) -> Result<Cli, clap::Error> {
    let mut cli = Cli::from_arg_matches(matches)?;
    if let CommandArgs::Attach(arguments) = &mut cli.command {
        arguments.is_capture_typed = needs::is_typed(matches, &["file", "packets"]);
    }
    Ok(cli)
}

/// Parses the command line; `words` includes the program's name. If there is nothing to run, what
/// clap prints (help, the version, an error) is already printed, and the exit code is returned.
pub fn parse(mut words: Vec<OsString>) -> Result<Invocation, Exit> {
    // `netwatch -- COMMAND` is `netwatch run -- COMMAND`.
    if words.get(1).is_some_and(|word| word == "--") {
        words.insert(1, "run".into());
    }
    // A mistyped `run` must not look like a failure of its command: 125 instead of 2.
    let failure = if words.get(1).is_some_and(|word| word == "run") { Exit::Failed } else { Exit::Error };
    let parsed = matches(&words).and_then(|matches| parsed(&matches));
    let cli = parsed.map_err(|mut error| {
        let is_unknown = error.kind() == ErrorKind::InvalidSubcommand;
        if is_unknown && words[1].as_encoded_bytes().contains(&b'/') {
            // A path is no mistyped subcommand.
            error.remove(ContextKind::SuggestedSubcommand);
        }
        // A closed standard error changes nothing.
        let _ = error.print();
        let is_word_of_history =
            error.kind() == ErrorKind::UnknownArgument && words.get(1).is_some_and(|word| word == "history");
        if is_unknown || is_word_of_history {
            let is_similar = error.get(ContextKind::SuggestedSubcommand).is_some();
            hint(&words, is_similar, is_program).into_iter().for_each(|hint| print_message(&hint));
        }
        if error.use_stderr() { failure } else { Exit::Success }
    })?;
    cli.command.invocation().map_err(|error| {
        print_error(&error);
        failure
    })
}

/// `netwatch curl …` means a run, and so does `netwatch rnu -- curl …`; `netwatch history 2` is
/// about a recorded one. `None` if clap named a similar subcommand.
fn hint(words: &[OsString], is_similar: bool, is_program: impl Fn(&OsStr) -> bool) -> Option<String> {
    if words.get(1).is_some_and(|word| word == "history") {
        let run = words.get(2).map(|word| word.to_string_lossy())?;
        return Some(format!("to show a run: netwatch history show {}", escape(&run)));
    }
    let after_dashes = words.iter().position(|word| word == "--").map(|dashes| dashes + 1);
    let command = words.get(after_dashes.unwrap_or(1)..)?;
    if after_dashes.is_none() && (is_similar || !command.first().is_some_and(|program| is_program(program))) {
        return (!is_similar).then(|| "`netwatch help` lists the subcommands".to_owned());
    }
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    Some(format!("to run a command: sudo netwatch run -- {}", escape(&words.join(" "))))
}

/// Whether a shell would find this program.
fn is_program(name: &OsStr) -> bool {
    let is_file = |path: PathBuf| path.is_file();
    match name.as_encoded_bytes().contains(&b'/') {
        true => is_file(name.into()),
        false => env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| is_file(dir.join(name)))),
    }
}

/// The definition of the command line. Help texts do not show environment variables:
/// `netwatch help reference` lists them.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(hide_environment).mut_subcommand("report", rules::hide)
}

fn hide_environment(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| argument.hide_env(true)).mut_subcommands(hide_environment)
}

fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "netwatch", &mut script);
    if shell == Shell::Fish {
        // clap_complete writes no values of arguments without a flag for it.
        script.extend(manual::fish_completions().into_bytes());
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    fn is_accepted(words: &str) -> bool {
        matches(&words.split(' ').map(OsString::from).collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn flags_about_packets_need_an_output() {
        let flags = "--filter tcp,--filter-code x,--only name=x,-s 64,-c 3,-Q in,-U,--super-frames,--capture-buffer 1024,--force";
        for flag in flags.split(',') {
            assert!(!is_accepted(&format!("netwatch run {flag} -- true")), "{flag}");
            assert!(is_accepted(&format!("netwatch run {flag} -w x -- true")), "{flag}");
            assert!(is_accepted(&format!("netwatch run {flag} --packets -- true")), "{flag}");
            assert!(!is_accepted(&format!("netwatch attach -i eth0 {flag}")), "{flag}");
            assert!(is_accepted(&format!("netwatch attach -i eth0 {flag} -w x")), "{flag}");
        }
        assert!(!is_accepted("netwatch tail --keylog") && is_accepted("netwatch tail --keylog -w x"));
        assert!(!is_accepted("netwatch replay -c 3 x") && is_accepted("netwatch replay -c 3 --packets x"));
        assert!(is_accepted("netwatch replay --filter tcp x") && is_accepted("netwatch tail --filter tcp -c 3"));
        assert!(!is_accepted("netwatch tail --force") && is_accepted("netwatch tail --force -w x"));
        for flag in ["-C 1M", "-G 1m"] {
            for command in ["tail", "attach -i eth0", "run --packets"].map(|words| format!("netwatch {words} {flag}")) {
                let last = if command.contains("run") { " -- true" } else { "" };
                assert!(!is_accepted(&format!("{command}{last}")), "{command}");
                assert!(is_accepted(&format!("{command} -w x{last}")), "{command}");
            }
        }
        for command in ["tail -w x", "run -w x -- true"].map(|words| words.replacen(' ', " -W 3 ", 1)) {
            assert!(!is_accepted(&format!("netwatch {command}")), "{command}");
            let rotated = command.replace("-W 3", "-W 3 -C 1M -G 1m");
            assert!(is_accepted(&format!("netwatch {rotated}")), "{rotated}");
        }
    }

    #[test]
    fn only_the_command_line_requests_a_capture_of_any_target() {
        for (flags, is_typed) in [("", false), (" -w x", true), (" --packets", true)] {
            let words = format!("netwatch attach --cgroup /{flags}");
            let matches = matches(&words.split(' ').map(OsString::from).collect::<Vec<_>>()).expect("valid");
            let CommandArgs::Attach(arguments) = parsed(&matches).expect("valid").command else { panic!("{words}") };
            assert_eq!(arguments.settings().expect("valid").is_capture_typed, is_typed, "{words}");
        }
    }

    #[test]
    fn flags_about_other_files_need_what_writes_them() {
        let needs = [
            ("--report-every 5m", "--soak"),
            ("--report-dir x", "--soak"),
            ("--events-size 1m", "--events-file x"),
            ("--otlp-ca x", "--otlp http://a"),
            ("--otlp-gzip", "--otlp http://a"),
            ("--otlp-spool x", "--otlp http://a"),
            ("--otlp-spool-size 1G", "--otlp http://a --otlp-spool x"),
            ("--metrics-labels name", "--metrics 0"),
        ];
        for (flag, other) in needs {
            assert!(!is_accepted(&format!("netwatch run {flag} -- true")), "{flag}");
            assert!(is_accepted(&format!("netwatch run {other} {flag} -- true")), "{flag}");
        }
        assert!(is_accepted("netwatch run -- true --report-dir x"));
        assert!(!is_accepted("netwatch attach -p 7 --events-keep 2"));
        let words = ["netwatch", "run", "--force", "--", "true"].map(OsString::from);
        let error = matches(&words).expect_err("no file").to_string();
        assert!(error.contains("--force needs --write or --packets\n\nUsage: netwatch run "), "{error}");
    }

    #[test]
    fn flags_are_accepted_as_tcpdump_users_type_them() {
        let parsed = |words: &str| command().try_get_matches_from(words.split(' '));
        for flags in ["-nn", "-vv", "-nnvvv", "-s 0", "-s 262144", "-Q inout"] {
            assert!(parsed(&format!("netwatch tail {flags}")).is_ok(), "{flags}");
        }
        for (flags, reason) in [("-C 0", "one file"), ("-G 0", "one file"), ("-s 13", "Ethernet header")] {
            let refused = parsed(&format!("netwatch tail -w x {flags}")).expect_err(flags).to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn a_command_after_two_dashes_is_run() {
        let words = ["netwatch", "--", "curl", "-s", "x"].map(OsString::from);
        let Ok(Invocation::Run(settings)) = parse(words.into()) else { panic!("a run") };
        assert_eq!(settings.command, ["curl", "-s", "x"]);
        let of = |line: &str, is_similar| {
            hint(&line.split(' ').map(OsString::from).collect::<Vec<_>>(), is_similar, |program| program == "curl")
        };
        let run = Some("to run a command: sudo netwatch run -- curl x".to_owned());
        assert_eq!(of("netwatch curl x", false), run);
        assert_eq!(of("netwatch rnu -- curl x", true), run);
        assert_eq!(of("netwatch reprot", true), None, "clap names the similar subcommand");
        assert_eq!(of("netwatch merge", false).as_deref(), Some("`netwatch help` lists the subcommands"));
        assert_eq!(of("netwatch history 2", false).as_deref(), Some("to show a run: netwatch history show 2"));
    }

    fn check_help(command: &clap::Command) {
        let check = |name: &str, help: Option<&clap::builder::StyledStr>| {
            let help = help.map(ToString::to_string).unwrap_or_default();
            assert!((1..80).contains(&help.chars().count()), "{} {name}: {help}", command.get_name());
        };
        check("", command.get_about());
        for argument in command.get_arguments() {
            check(argument.get_id().as_str(), argument.get_help());
            assert!(argument.get_env().is_none() || argument.is_hide_env_set(), "{}", argument.get_id());
        }
        command.get_subcommands().for_each(check_help);
    }

    #[test]
    fn short_help_fits_a_line_and_hides_the_environment() {
        check_help(&command());
    }

    #[test]
    fn each_shell_gets_a_completion_script() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).expect("text");
            assert!(script.contains("netwatch"), "{shell}");
            // For the others, clap_complete writes no values of arguments without a flag.
            if matches!(shell, Shell::Bash | Shell::Fish | Shell::Zsh) {
                let of_help = ["reference", "thresholds"].iter().all(|topic| script.contains(topic));
                assert!(of_help, "{shell}: topics of help");
            }
        }
    }

    /// The table's tags have no room for more entries.
    #[test]
    fn the_flow_limit_is_that_of_the_flow_table() {
        for (command, last) in [("run", "true"), ("replay", "a.pcap")] {
            let max_flows = |flows: u32| {
                let words = ["netwatch", command, "--max-flows", &flows.to_string(), last];
                parse(words.map(OsString::from).into()).is_ok()
            };
            let max = crate::meter::MAX_ENTRIES;
            assert_eq!((max_flows(0), max_flows(max), max_flows(max + 1)), (false, true, false), "{command}");
        }
    }

    #[test]
    fn a_mistyped_run_exits_with_125_and_other_commands_with_2() {
        let exit = |words: &[&str]| parse(words.iter().map(OsString::from).collect()).err();
        assert_eq!(exit(&["netwatch", "run", "--duration", "18446744073709551615", "true"]), Some(Exit::Failed));
        assert_eq!(exit(&["netwatch", "run", "--linger=18446744073709551615", "true"]), Some(Exit::Failed));
        assert_eq!(exit(&["netwatch", "list", "--no-such-flag"]), Some(Exit::Error));
        assert_eq!(exit(&["netwatch", "curl", "x"]), Some(Exit::Error));
        assert_eq!(exit(&["netwatch", "report", "--family", "4"]), Some(Exit::Error));
    }
}
