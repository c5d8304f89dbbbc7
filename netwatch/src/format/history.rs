//! The list of recorded runs, for people and as JSON.

use serde::Serialize;

use super::summary::{text, units};
use super::{escape, rfc3339};
use crate::report::ExitStatus;

/// A recorded run.
#[derive(Debug, Clone)]
pub struct Entry {
    /// 1 is the newest.
    pub number: usize,
    /// The run's id.
    pub id: String,
    /// Its file.
    pub file: String,
    /// Bytes that the file has.
    pub file_bytes: u64,
    /// How much of it is there.
    pub state: State,
    /// What it holds, where that can be read.
    pub held: Option<Held>,
}

/// What is read of a recording.
#[derive(Debug, Clone)]
pub struct Held {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Start of the command, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// From there to its end, or to the last that was written, nanoseconds.
    pub duration_ns: u64,
    /// How it ended, if that is known.
    pub exit: Option<ExitStatus>,
    /// Bytes that the target sent, as a wire would carry them.
    pub egress_wire_bytes: u64,
    /// Bytes that it received.
    pub ingress_wire_bytes: u64,
}

/// How much of a recording is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// All of it.
    Complete,
    /// Only what was counted up to this time, nanoseconds since the Unix epoch.
    Incomplete(u64),
    /// Its run still goes on.
    Running,
    /// It cannot be read, for this reason.
    Unreadable(String),
}

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete(_) => "incomplete",
            Self::Running => "running",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// Aligned columns; the command is cut where `width` ends, if there is one.
pub fn table(entries: &[Entry], width: Option<usize>) -> String {
    const HEAD: [&str; 9] = ["NO", "ID", "STARTED (UTC)", "DURATION", "EXIT", "SENT", "RECEIVED", "STATE", "COMMAND"];
    const RIGHT: [usize; 4] = [0, 3, 5, 6];
    let rows: Vec<[String; 9]> = std::iter::once(HEAD.map(str::to_owned)).chain(entries.iter().map(row)).collect();
    let mut lines = String::new();
    let widths: [usize; 9] =
        std::array::from_fn(|column| rows.iter().map(|row| text::width(&row[column])).max().unwrap_or_default());
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate().take(HEAD.len() - 1) {
            let wide = widths[column];
            line += &if RIGHT.contains(&column) { format!("{cell:>wide$}  ") } else { format!("{cell:<wide$}  ") };
        }
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(text::width(&line)).max(1));
        line += &text::cut(&row[HEAD.len() - 1], room);
        lines += line.trim_end();
        lines.push('\n');
    }
    lines
}

fn row(entry: &Entry) -> [String; 9] {
    let (number, id, state) = (entry.number.to_string(), entry.id.clone(), entry.state.word().to_owned());
    let absent = || "-".to_owned();
    let Some(held) = &entry.held else {
        let why = match &entry.state {
            State::Unreadable(why) => escape(why).into_owned(),
            _ => absent(),
        };
        return [number, id, absent(), absent(), absent(), absent(), absent(), state, why];
    };
    [
        number,
        id,
        rfc3339(held.started_ns).chars().take("2026-01-01T12:00:00".len()).collect::<String>().replace('T', " "),
        units::duration(held.duration_ns),
        held.exit.map_or_else(absent, exit),
        units::bytes(held.egress_wire_bytes),
        units::bytes(held.ingress_wire_bytes),
        state,
        text::command(&held.command),
    ]
}

/// As a shell has it: the code, or the signal's name.
fn exit(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Code(code) => code.to_string(),
        ExitStatus::Signal(signal) => super::summary::signal_name(signal),
    }
}

/// One JSON document: a list, newest first.
pub fn json(entries: &[Entry]) -> String {
    let entries: Vec<Line<'_>> = entries.iter().map(Line::from).collect();
    super::json::escaped::to_text(&entries)
}

#[derive(Serialize)]
struct Line<'a> {
    number: usize,
    id: &'a str,
    file: &'a str,
    file_bytes: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egress_wire_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ingress_wire_bytes: Option<u64>,
}

impl<'a> From<&'a Entry> for Line<'a> {
    fn from(entry: &'a Entry) -> Self {
        let held = entry.held.as_ref();
        let exit = held.and_then(|held| held.exit);
        Self {
            number: entry.number,
            id: &entry.id,
            file: &entry.file,
            file_bytes: entry.file_bytes,
            state: entry.state.word(),
            until: if let State::Incomplete(until_ns) = entry.state { Some(rfc3339(until_ns)) } else { None },
            cause: if let State::Unreadable(why) = &entry.state { Some(why) } else { None },
            command: held.map(|held| held.command.as_slice()),
            started: held.map(|held| rfc3339(held.started_ns)),
            duration_ns: held.map(|held| held.duration_ns),
            exit_code: exit.and_then(|exit| if let ExitStatus::Code(code) = exit { Some(code) } else { None }),
            exit_signal: exit.and_then(|exit| if let ExitStatus::Signal(signal) = exit { Some(signal) } else { None }),
            egress_wire_bytes: held.map(|held| held.egress_wire_bytes),
            ingress_wire_bytes: held.map(|held| held.ingress_wire_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: usize, state: State, exit: Option<ExitStatus>) -> Entry {
        let held = Held {
            command: vec!["curl".into(), "-sS".into(), "https://app.example/\u{1b}[2J".into()],
            started_ns: 1_767_225_600_000_000_000,
            duration_ns: 1_240_000_000,
            exit,
            egress_wire_bytes: 19_184,
            ingress_wire_bytes: 1_290_406,
        };
        let held = (!matches!(state, State::Running | State::Unreadable(_))).then_some(held);
        Entry { number, id: "3f2a91bc".into(), file: "/runs/x".into(), file_bytes: 4096, state, held }
    }

    #[test]
    fn columns_are_aligned_and_harmless_and_end_where_the_terminal_does() {
        let entries = [
            entry(1, State::Running, None),
            entry(2, State::Complete, Some(ExitStatus::Code(0))),
            entry(3, State::Incomplete(1), None),
            entry(14, State::Complete, Some(ExitStatus::Signal(9))),
            entry(15, State::Unreadable("the file is empty".into()), None),
        ];
        let expected = "\
NO  ID        STARTED (UTC)        DURATION  EXIT        SENT  RECEIVED  STATE       COMMAND
 1  3f2a91bc  -                           -  -              -         -  running     -
 2  3f2a91bc  2026-01-01 00:00:00    1.24 s  0        19.2 kB   1.29 MB  complete    curl -sS …
 3  3f2a91bc  2026-01-01 00:00:00    1.24 s  -        19.2 kB   1.29 MB  incomplete  curl -sS …
14  3f2a91bc  2026-01-01 00:00:00    1.24 s  SIGKILL  19.2 kB   1.29 MB  complete    curl -sS …
15  3f2a91bc  -                           -  -              -         -  unreadable  the file …
";
        assert_eq!(table(&entries, Some(95)), expected);
        let wide = table(&entries, None);
        assert!(
            wide.contains(r"curl -sS 'https://app.example/\u{1b}[2J'") && wide.contains("the file is empty"),
            "{wide}"
        );
    }

    #[test]
    fn json_has_what_is_known() {
        let text =
            json(&[entry(1, State::Incomplete(0), None), entry(2, State::Complete, Some(ExitStatus::Signal(9)))]);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value[0]["until"], "1970-01-01T00:00:00.000000000Z");
        assert_eq!((&value[1]["exit_signal"], &value[1]["exit_code"]), (&9.into(), &serde_json::Value::Null));
    }
}
