//! The list of recorded runs, for people and as JSON.

use serde::Serialize;

use super::summary::{text, units};
use super::{escape, rfc3339};
use crate::report::ExitStatus;

/// A recorded run.
#[derive(Debug, Clone)]
pub struct RecordedRun {
    /// 1 is the newest.
    pub number: usize,
    /// The run's id.
    pub id: String,
    /// Its file.
    pub file: String,
    /// Size of the file, bytes.
    pub file_bytes: u64,
    /// Its state.
    pub state: RecordingStatus,
    /// Its facts, if it can be read.
    pub facts: Option<RecordedFacts>,
}

/// Facts from a recording.
#[derive(Debug, Clone)]
pub struct RecordedFacts {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Start of the command, nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// From there to its exit, or to the last data, nanoseconds.
    pub duration_ns: u64,
    /// How it exited, if known.
    pub exit: Option<ExitStatus>,
    /// Bytes that the target sent, as a wire would carry them.
    pub egress_wire_bytes: u64,
    /// Bytes that it received.
    pub ingress_wire_bytes: u64,
}

/// State of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingStatus {
    /// The run ended and was recorded completely.
    Complete,
    /// Data ends at this time, nanoseconds since the Unix epoch.
    Incomplete(u64),
    /// The run is in progress.
    Running,
    /// The file cannot be read, for this reason.
    Unreadable(String),
}

impl RecordingStatus {
    fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete(_) => "incomplete",
            Self::Running => "running",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// Columns that the command gets at least on the line of its run.
const MIN_COMMAND: usize = 24;
/// Columns before a command on a line of its own.
const INDENT: usize = 4;

/// Aligned columns; the command is cut where `width` ends, if there is one. Where only a few
/// columns are left for it, it has a line of its own.
pub fn table(entries: &[RecordedRun], width: Option<usize>) -> String {
    const HEAD: [&str; 8] = ["NO", "ID", "STARTED (UTC)", "DURATION", "EXIT", "SENT", "RECEIVED", "COMMAND"];
    const RIGHT: [usize; 4] = [0, 3, 5, 6];
    let rows: Vec<[String; 8]> = std::iter::once(HEAD.map(str::to_owned)).chain(entries.iter().map(row)).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| text::width(&row[column])).max().unwrap_or_default());
    let used: usize = widths.iter().map(|width| width + 2).sum();
    let is_below = width.is_some_and(|width| width < used + MIN_COMMAND);
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(if is_below { INDENT } else { used }).max(1));
    let mut lines = String::new();
    for (at, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, wide)) in row.iter().zip(widths).enumerate() {
            line += &if RIGHT.contains(&column) { format!("{cell:>wide$}  ") } else { format!("{cell:<wide$}  ") };
        }
        let command = text::cut(&row[HEAD.len() - 1], room);
        match (is_below, at) {
            (false, _) => line += &command,
            (true, 0) => {}
            (true, _) => line = format!("{}\n{}{command}", line.trim_end(), " ".repeat(INDENT)),
        }
        lines += line.trim_end();
        lines.push('\n');
    }
    lines
}

fn row(entry: &RecordedRun) -> [String; 8] {
    let (number, id, state) = (entry.number.to_string(), entry.id.clone(), entry.state.word().to_owned());
    let absent = || "-".to_owned();
    let Some(facts) = &entry.facts else {
        let why = match &entry.state {
            RecordingStatus::Unreadable(why) => escape(why).into_owned(),
            _ => absent(),
        };
        return [number, id, absent(), absent(), state, absent(), absent(), why];
    };
    [
        number,
        id,
        rfc3339(facts.started_ns).chars().take("2026-01-01T12:00:00".len()).collect::<String>().replace('T', " "),
        units::duration(facts.duration_ns),
        // Of a run whose recording is not complete, the exit is hardly ever known.
        facts.exit.filter(|_| entry.state == RecordingStatus::Complete).map_or(state, exit),
        units::bytes(facts.egress_wire_bytes),
        units::bytes(facts.ingress_wire_bytes),
        text::command(&facts.command),
    ]
}

/// The exit code, or the name of the signal.
fn exit(exit: ExitStatus) -> String {
    match exit {
        ExitStatus::Code(code) => code.to_string(),
        ExitStatus::Signal(signal) => super::summary::signal_name(signal),
    }
}

/// The same as a JSON document.
pub fn json(entries: &[RecordedRun]) -> String {
    let entries: Vec<JsonRecordedRun<'_>> = entries.iter().map(JsonRecordedRun::from).collect();
    super::json::runs(&entries)
}

#[derive(Serialize)]
struct JsonRecordedRun<'a> {
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

impl<'a> From<&'a RecordedRun> for JsonRecordedRun<'a> {
    fn from(entry: &'a RecordedRun) -> Self {
        let facts = entry.facts.as_ref();
        let exit = facts.and_then(|facts| facts.exit);
        Self {
            number: entry.number,
            id: &entry.id,
            file: &entry.file,
            file_bytes: entry.file_bytes,
            state: entry.state.word(),
            until: if let RecordingStatus::Incomplete(until_ns) = entry.state { Some(rfc3339(until_ns)) } else { None },
            cause: if let RecordingStatus::Unreadable(why) = &entry.state { Some(why) } else { None },
            command: facts.map(|facts| facts.command.as_slice()),
            started: facts.map(|facts| rfc3339(facts.started_ns)),
            duration_ns: facts.map(|facts| facts.duration_ns),
            exit_code: exit.and_then(|exit| if let ExitStatus::Code(code) = exit { Some(code) } else { None }),
            exit_signal: exit.and_then(|exit| if let ExitStatus::Signal(signal) = exit { Some(signal) } else { None }),
            egress_wire_bytes: facts.map(|facts| facts.egress_wire_bytes),
            ingress_wire_bytes: facts.map(|facts| facts.ingress_wire_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: usize, state: RecordingStatus, exit: Option<ExitStatus>) -> RecordedRun {
        let facts = RecordedFacts {
            command: vec!["curl".into(), "-sS".into(), "https://app.example/\u{1b}[2J".into()],
            started_ns: 1_767_225_600_000_000_000,
            duration_ns: 1_240_000_000,
            exit,
            egress_wire_bytes: 19_184,
            ingress_wire_bytes: 1_290_406,
        };
        let facts = (!matches!(state, RecordingStatus::Running | RecordingStatus::Unreadable(_))).then_some(facts);
        RecordedRun { number, id: "3f2a91bc".into(), file: "/runs/x".into(), file_bytes: 4096, state, facts }
    }

    #[test]
    fn columns_are_aligned_escaped_and_cut_at_the_width() {
        let entries = [
            entry(1, RecordingStatus::Running, None),
            entry(2, RecordingStatus::Complete, Some(ExitStatus::Code(0))),
            entry(3, RecordingStatus::Incomplete(1), None),
            entry(14, RecordingStatus::Complete, Some(ExitStatus::Signal(9))),
            entry(15, RecordingStatus::Unreadable("the file is empty".into()), None),
        ];
        let expected = "\
NO  ID        STARTED (UTC)        DURATION  EXIT           SENT  RECEIVED  COMMAND
 1  3f2a91bc  -                           -  running           -         -  -
 2  3f2a91bc  2026-01-01 00:00:00    1.24 s  0           19.2 kB   1.29 MB  curl -sS 'https://app.e…
 3  3f2a91bc  2026-01-01 00:00:00    1.24 s  incomplete  19.2 kB   1.29 MB  curl -sS 'https://app.e…
14  3f2a91bc  2026-01-01 00:00:00    1.24 s  SIGKILL     19.2 kB   1.29 MB  curl -sS 'https://app.e…
15  3f2a91bc  -                           -  unreadable        -         -  the file is empty
";
        assert_eq!(table(&entries, Some(100)), expected);
        let narrow = "\
NO  ID        STARTED (UTC)        DURATION  EXIT        SENT  RECEIVED
 2  3f2a91bc  2026-01-01 00:00:00    1.24 s  0        19.2 kB   1.29 MB
    curl -sS 'https://app.example/\\u{1b}[2J'
14  3f2a91bc  2026-01-01 00:00:00    1.24 s  SIGKILL  19.2 kB   1.29 MB
    curl -sS 'https://app.example/\\u{1b}[2J'
";
        let entries_80 = [entries[1].clone(), entries[3].clone()];
        assert_eq!(table(&entries_80, Some(80)), narrow);
        let wide = table(&entries, None);
        assert!(
            wide.contains(r"curl -sS 'https://app.example/\u{1b}[2J'") && wide.contains("the file is empty"),
            "{wide}"
        );
    }

    #[test]
    fn json_has_the_known_facts() {
        let text = json(&[
            entry(1, RecordingStatus::Incomplete(0), None),
            entry(2, RecordingStatus::Complete, Some(ExitStatus::Signal(9))),
        ]);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["schema"], 2);
        let runs = &value["runs"];
        assert_eq!(runs[0]["until"], "1970-01-01T00:00:00.000000000Z");
        assert_eq!((&runs[1]["exit_signal"], runs[1].get("exit_code")), (&9.into(), None));
    }
}
