//! `netwatch list`: the runs that are alive.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;

use crate::exit::Exit;
use crate::format::json::harmless;
use crate::terminal::{complain, print};
use crate::undo::{RunCard, RunDir};

/// How to show them.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// One JSON document
    #[arg(short, long)]
    json: bool,
}

pub(super) fn main(arguments: &ListArgs) -> Exit {
    match RunDir::live().and_then(|cards| print(text(arguments, &cards))) {
        Ok(()) => Exit::Success,
        Err(error) => {
            complain(&error);
            Exit::Usage
        }
    }
}

fn text(arguments: &ListArgs, cards: &[RunCard]) -> String {
    if arguments.json {
        harmless::text(&cards)
    } else {
        table(cards, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

fn table(cards: &[RunCard], now: Duration) -> String {
    let mut text = format!("{:<8}  {:>7}  {:<10}  {:>8}  {:<12}  COMMAND\n", "ID", "PID", "INTERFACE", "SINCE", "USER");
    for card in cards {
        let since = now.saturating_sub(Duration::from_nanos(card.started_ns)).as_secs();
        let since = humantime::format_duration(Duration::from_secs(since)).to_string().replace(' ', "");
        let command = card.command.join(" ").escape_default().to_string();
        text += &format!(
            "{:<8}  {:>7}  {:<10}  {since:>8}  {:<12}  {command}\n",
            card.id.as_str(),
            card.pid,
            card.interface,
            card.user
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::undo::RunId;

    #[test]
    fn shows_a_line_a_run_and_escapes_what_could_move_the_cursor() {
        let card = RunCard {
            id: RunId::parse("3f2a91bc").expect("an id"),
            pid: 42,
            command: vec!["sh".into(), "-c".into(), "\u{1b}[2J".into()],
            user: "alice".into(),
            started_ns: 0,
            interface: "nw3f2a91bc".into(),
            netns: None,
        };
        let text = table(&[card], Duration::from_secs(61));
        let line = text.lines().nth(1).expect("one line");
        assert_eq!(line, r"3f2a91bc       42  nw3f2a91bc      1m1s  alice         sh -c \u{1b}[2J");
    }
}
