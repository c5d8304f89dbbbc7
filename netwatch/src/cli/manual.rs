//! `netwatch help` and `netwatch man`: the help of subcommands, made from their definition, and the
//! topics of the manual.

use std::ffi::OsStr;
use std::io;

use clap::CommandFactory;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap_mangen::Man;

use super::{Cli, command};
use crate::error::{Error, Result};
use crate::manual::{self, TOPICS, Topic};
use crate::settings::ColorChoice;
use crate::terminal::Show;

/// Below the help of `netwatch man`.
pub(super) const AFTER: &str = "\
Examples:
  netwatch man run | man -l -                            read it
  for page in $(netwatch man); do                        install all of them
    netwatch man $page > /usr/local/share/man/man${page##*.}/$page; done";

/// What `netwatch help` prints for these words: nothing, a topic, or a subcommand.
pub(super) fn help(words: &[String]) -> Result<String> {
    let show = Show::on(&io::stdout(), false, false, ColorChoice::Auto);
    if let [name] = words
        && let Some(topic) = Topic::find(name)
    {
        return Ok(topic.text(show.width(), show.summary_options().color));
    }
    let mut command = command();
    command.build();
    let found = words.iter().try_fold(&mut command, |command, word| command.find_subcommand_mut(word));
    let Some(found) = found else {
        let topics = TOPICS.iter().map(|topic| topic.name).collect::<Vec<_>>().join(", ");
        let error = Error::other("find", format!("the topic {}", words.join(" ")), "there is none of this name");
        return Err(error.hint(format!("a subcommand (`netwatch help` lists them), or one of {topics}")));
    };
    let help = found.render_long_help();
    Ok(if show.summary_options().color { help.ansi().to_string() } else { help.to_string() })
}

/// Words of `netwatch help`. Completions suggest topics and subcommands; any other word is
/// accepted, and [`help`] reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopicParser;

impl TypedValueParser for TopicParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(help_words().into_iter()))
    }
}

/// Subcommands and topics, with what they are about.
fn help_words() -> Vec<PossibleValue> {
    let commands = Cli::command();
    let shown = commands.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let about = |command: &clap::Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    let commands = shown.map(|command| PossibleValue::new(command.get_name().to_owned()).help(about(command)));
    let topics = TOPICS.iter().map(|topic| PossibleValue::new(topic.name).help(topic.about));
    commands.chain(topics).collect()
}

/// The words of `netwatch help`, for the completion script of fish.
pub(super) fn fish_completions() -> String {
    let line = |value: &PossibleValue| {
        let about = value.get_help().map(ToString::to_string).unwrap_or_default().replace('\'', "\\'");
        format!("complete -c netwatch -n '__fish_seen_subcommand_from help' -f -a {} -d '{about}'\n", value.get_name())
    };
    help_words().iter().map(line).collect()
}

/// The lines below the help of `netwatch help`.
pub(super) fn topics() -> String {
    let width = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    let lines = TOPICS.iter().map(|topic| format!("  {:width$}  {}\n", topic.name, topic.about));
    format!("Topics:\n{}", lines.collect::<String>())
}

/// A man page in roff, or without a name the file names of all pages.
pub(super) fn page(name: Option<&str>) -> Result<String> {
    let Some(name) = name else {
        return Ok(pages().iter().map(|page| page.file() + "\n").collect());
    };
    let name = Topic::find(name).map_or(name, |topic| topic.name);
    let short = |file: &str| file.trim_start_matches("netwatch-").rsplit_once('.').map(|(short, _)| short.to_owned());
    let matches = |file: String| {
        file == name
            || file.rsplit_once('.').is_some_and(|(page, _)| page == name)
            || short(&file).as_deref() == Some(name)
    };
    let page = pages().into_iter().find(|page| matches(page.file())).ok_or_else(|| {
        Error::other("find", format!("the man page {name}"), "there is none of this name")
            .hint("`netwatch man` lists them")
    })?;
    page.render().map_err(|error| Error::os("render", format!("the man page {name}"), error))
}

/// What a man page is about.
enum PageSubject {
    Command(Box<clap::Command>),
    Topic(&'static Topic),
}

/// Every page: netwatch, its visible subcommands, the topics.
fn pages() -> Vec<PageSubject> {
    let mut root = command();
    root.build();
    let mut pages = Vec::new();
    add_commands(&root, &mut pages);
    pages.extend(TOPICS.iter().map(PageSubject::Topic));
    pages
}

fn add_commands(command: &clap::Command, pages: &mut Vec<PageSubject>) {
    pages.push(PageSubject::Command(Box::new(command.clone())));
    let shown = command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help");
    shown.for_each(|below| add_commands(below, pages));
}

impl PageSubject {
    fn file(&self) -> String {
        match self {
            Self::Command(command) => Man::new((**command).clone()).get_filename(),
            Self::Topic(topic) => topic.man_name().replace('(', ".").replace(')', ""),
        }
    }

    fn render(self) -> io::Result<String> {
        let command = match self {
            Self::Topic(topic) => return Ok(topic.man_page()),
            Self::Command(command) => *command,
        };
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        Ok(String::from_utf8_lossy(&page).into_owned() + &manual::see_also())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &[&str]) -> String {
        help(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).expect("help")
    }

    #[test]
    fn help_is_about_netwatch_subcommands_and_topics() {
        assert!(text(&[]).contains("Usage: netwatch <COMMAND>"));
        assert!(text(&["history", "show"]).contains("Usage: netwatch history show"));
        assert!(text(&["reference"]).contains("124"));
        for part in ["environment", "exit-codes", "files", "signals"] {
            assert_eq!((text(&[part]), page(Some(part)).ok()), (text(&["reference"]), page(Some("reference")).ok()));
        }
        for topic in TOPICS {
            assert!(text(&["help"]).contains(topic.about));
            assert!(text(&[]).contains(topic.name), "{}", topic.name);
            assert!(command().find_subcommand(topic.name).is_none(), "a subcommand hides the topic {}", topic.name);
        }
        let error = help(&["curl".to_owned()]).expect_err("no topic");
        assert!(format!("{error:#}").contains("reference"));
    }

    #[test]
    fn every_page_is_found_by_its_names_and_has_the_topics() {
        let files = page(None).expect("a list");
        assert!(files.lines().any(|file| file == "netwatch-history-list.1"));
        assert!(files.lines().any(|file| file == "netwatch-reference.7"));
        for file in files.lines() {
            let by_file = page(Some(file)).expect(file);
            assert!(by_file.contains("SEE ALSO") || by_file.contains(r#""SEE ALSO""#), "{file}");
            let short = file.trim_start_matches("netwatch-").rsplit_once('.').map(|(short, _)| short);
            assert_eq!(page(short).expect(file), by_file);
        }
        assert!(page(Some("curl")).is_err());
    }
}
