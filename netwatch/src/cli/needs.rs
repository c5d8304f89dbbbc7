//! Flags that have an effect only beside another one. On the command line such a flag alone is an
//! error. Its variable may be set for all runs, so it has no effect then, which `requires` of clap
//! does not distinguish.

use clap::ArgMatches;
use clap::parser::ValueSource;

/// Flags of a subcommand of which each needs one of the others, by the ids of clap.
struct FlagNeed {
    subcommands: &'static [&'static str],
    flags: &'static [&'static str],
    others: &'static [&'static str],
}

const NEEDS: [FlagNeed; 10] = [
    FlagNeed {
        subcommands: &["run", "attach"],
        flags: &[
            "filter",
            "filter_code",
            "only",
            "snaplen",
            "count",
            "direction",
            "unbuffered",
            "super_frames",
            "capture_buffer",
            "force",
        ],
        others: &["file", "packets"],
    },
    FlagNeed { subcommands: &["run", "attach", "tail"], flags: &["file_size", "file_time"], others: &["file"] },
    FlagNeed { subcommands: &["run", "attach", "tail"], flags: &["file_count"], others: &["file_size", "file_time"] },
    FlagNeed { subcommands: &["tail"], flags: &["force"], others: &["file"] },
    FlagNeed { subcommands: &["replay"], flags: &["only", "count"], others: &["write", "packets"] },
    FlagNeed { subcommands: &["run"], flags: &["report_every", "report_dir"], others: &["soak"] },
    FlagNeed { subcommands: &["run", "attach"], flags: &["events_size", "events_keep"], others: &["events_file"] },
    FlagNeed { subcommands: &["run", "attach"], flags: &["otlp_ca", "otlp_gzip", "otlp_spool"], others: &["otlp"] },
    FlagNeed { subcommands: &["run", "attach"], flags: &["otlp_spool_size"], others: &["otlp_spool"] },
    FlagNeed { subcommands: &["run", "attach"], flags: &["metrics_labels"], others: &["metrics"] },
];

/// The first flag of the command line that lacks another one, as a sentence: `--force needs --write
/// or --packets`.
pub(super) fn missing(command: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let (name, matches) = matches.subcommand()?;
    let command = command.find_subcommand(name)?;
    let of_subcommand = NEEDS.iter().filter(|need| need.subcommands.contains(&name));
    let missing = |need: &FlagNeed| {
        let alone = need.flags.iter().find(|flag| matches.value_source(flag) == Some(ValueSource::CommandLine))?;
        let is_lacking = !need.others.iter().any(|other| is_set(matches, other));
        let others = || need.others.iter().map(|other| shown(command, other)).collect::<Vec<_>>().join(" or ");
        is_lacking.then(|| format!("{} needs {}", shown(command, alone), others()))
    };
    of_subcommand.into_iter().find_map(missing)
}

/// Whether the command line of the subcommand has one of these flags, and not only the environment.
pub(super) fn is_typed(matches: &ArgMatches, flags: &[&str]) -> bool {
    let matches = matches.subcommand().map(|(_, matches)| matches);
    let is_typed =
        |flag: &&str| matches.is_some_and(|matches| matches.value_source(flag) == Some(ValueSource::CommandLine));
    flags.iter().any(is_typed)
}

/// Whether a flag has an effect: a switch may be turned off by its variable.
fn is_set(matches: &ArgMatches, id: &str) -> bool {
    let is_there = matches.value_source(id).is_some_and(|source| source != ValueSource::DefaultValue);
    is_there && matches.try_get_one::<bool>(id).map_or(true, |switch| switch.copied().unwrap_or(true))
}

/// `--force`.
fn shown(command: &clap::Command, id: &str) -> String {
    let argument = command.get_arguments().find(|argument| argument.get_id() == id);
    format!("--{}", argument.and_then(clap::Arg::get_long).unwrap_or(id))
}
