//! `netwatch list`: lists the runs in progress.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::error::Result;
use crate::escape::escape;
use crate::exit::Exit;
use crate::format::{json, rfc3339};
use crate::terminal::print;
use crate::undo::{RunCard, RunDir};

pub(super) fn list(as_json: bool) -> Result<Exit> {
    let cards = RunDir::live()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    print(if as_json { document(&cards) } else { table(&cards, now) })?;
    Ok(Exit::Success)
}

#[derive(Serialize)]
struct JsonLiveRun<'a> {
    id: &'a str,
    pid: i32,
    command: &'a [String],
    user: &'a str,
    started: String,
    interface: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<&'a str>,
}

impl<'a> From<&'a RunCard> for JsonLiveRun<'a> {
    fn from(card: &'a RunCard) -> Self {
        let RunCard { id, pid, guardian: _, command, user, started_ns, interface, netns } = card;
        let (id, started, netns) = (id.as_str(), rfc3339(*started_ns), netns.as_deref());
        Self { id, pid: *pid, command, user, started, interface, netns }
    }
}

fn document(cards: &[RunCard]) -> String {
    json::runs(&cards.iter().map(JsonLiveRun::from).collect::<Vec<_>>())
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
            escape(&card.interface),
            escape(&card.user)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::undo::RunId;

    fn card() -> RunCard {
        RunCard {
            id: RunId::parse("3f2a91bc").expect("an id"),
            pid: 42,
            guardian: None,
            command: vec!["sh".into(), "-c".into(), "\u{1b}[2J".into()],
            user: "alice".into(),
            started_ns: 0,
            interface: "nw3f2a91bc".into(),
            netns: None,
        }
    }

    #[test]
    fn the_document_has_the_conventions_of_all_json() {
        let value: serde_json::Value = serde_json::from_str(&document(&[card()])).expect("JSON");
        assert_eq!(value["schema"], 2);
        let run = &value["runs"][0];
        assert_eq!(run["started"], "1970-01-01T00:00:00.000000000Z");
        assert!(run.get("netns").is_none(), "{run}");
    }

    #[test]
    fn prints_one_line_per_run_and_escapes_control_characters() {
        let text = table(&[card()], Duration::from_secs(61));
        let line = text.lines().nth(1).expect("one line");
        assert_eq!(line, r"3f2a91bc       42  nw3f2a91bc      1m1s  alice         sh -c \u{1b}[2J");
        let named = RunCard { interface: "a\u{1b}c".into(), ..card() };
        let text = table(&[named], Duration::from_secs(61));
        assert!(text.contains(r"  a\u{1b}c    ") && !text.contains('\u{1b}'), "{text}");
    }
}
