//! `netwatch list`: lists the runs in progress.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Result;
use crate::exit::Exit;
use crate::format::json::escaped;
use crate::terminal::print;
use crate::undo::{RunCard, RunDir};

pub(super) fn list(json: bool) -> Result<Exit> {
    let cards = RunDir::live()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    print(if json { escaped::to_text(&cards) } else { table(&cards, now) })?;
    Ok(Exit::Success)
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
    fn prints_one_line_per_run_and_escapes_control_characters() {
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
