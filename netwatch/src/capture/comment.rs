//! The comments on packets that netwatch writes and reads: the process of a packet, and the name of
//! its remote. The comments of ptcpdump are read too.

use std::fmt::Write as _;

use crate::escape::needs_escape;

/// The kernel's limit for the name of a process, bytes.
const COMM_BYTES: usize = 15;
/// Maximum length of each text in a comment that is read, bytes: that of a path (`PATH_MAX`).
const MAX_TEXT_BYTES: usize = 4096;
/// Maximum length of a name of a remote that is read, bytes.
const MAX_NAME_BYTES: usize = 255;

/// The process in a comment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommentedProcess {
    /// Its process id.
    pub pid: u32,
    /// Its user, if that is known.
    pub uid: Option<u32>,
    /// Its name.
    pub comm: String,
    /// Its executable, if that is known.
    pub exe: Option<String>,
}

impl CommentedProcess {
    /// Length of its texts in bytes.
    pub fn text_len(&self) -> usize {
        self.comm.len() + self.exe.as_ref().map_or(0, String::len)
    }

    /// The comment, as docs/capture.md documents it: the texts are JSON strings, so it is one line.
    pub fn to_comment(&self) -> String {
        let uid = self.uid.map_or(String::new(), |uid| format!(" uid={uid}"));
        let exe = self.exe.as_ref().map_or(String::new(), |exe| format!(" exe={}", quoted(exe)));
        format!("process pid={}{uid} comm={}{exe}", self.pid, quoted(&self.comm))
    }

    /// Parses the comment of netwatch or ptcpdump.
    pub fn parse(comment: &str) -> Option<Self> {
        Self::parse_own(comment).or_else(|| Self::parse_ptcpdump(comment))
    }

    fn parse_own(comment: &str) -> Option<Self> {
        let mut process = Self { pid: 0, uid: None, comm: String::new(), exe: None };
        let mut has_pid = false;
        each_value(comment.strip_prefix("process ")?, |key, value| {
            let number = || value.as_u64().and_then(|number| u32::try_from(number).ok());
            match key {
                "pid" => (process.pid, has_pid) = (number()?, true),
                "uid" => process.uid = Some(number()?),
                "comm" => process.comm = read_text(value)?,
                "exe" => process.exe = Some(read_text(value)?),
                _ => {}
            }
            Some(())
        })?;
        has_pid.then_some(process)
    }

    /// The lines `PID: N` and `Cmd: PATH`.
    fn parse_ptcpdump(comment: &str) -> Option<Self> {
        let line = |name: &str| comment.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let pid = line("PID:")?.parse().ok().filter(|pid| *pid != 0)?;
        let exe = line("Cmd:").filter(|path| !path.is_empty() && path.len() <= MAX_TEXT_BYTES);
        let name = exe.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let comm = name.char_indices().take_while(|(at, c)| at + c.len_utf8() <= COMM_BYTES).map(|(_, c)| c).collect();
        Some(Self { pid, uid: None, comm, exe: exe.map(str::to_owned) })
    }
}

/// Lost packets by direction, after their sum in the balance of a capture: ` (3 out, 2 in)`.
pub fn losses((egress, ingress): (u64, u64)) -> String {
    format!(" ({egress} out, {ingress} in)")
}

/// Parses the lost packets, sent and received, in the balance of a capture. `None` if the comment
/// has none.
pub fn parse_losses(comment: &str) -> Option<(u64, u64)> {
    let balance = comment.lines().find_map(|line| line.strip_prefix("capture: "))?;
    let (before, after) = balance.split_once(" lost")?;
    if before.rsplit(' ').next() == Some("0") {
        return Some((0, 0));
    }
    let (egress, rest) = after.strip_prefix(" (")?.split_once(" out, ")?;
    Some((egress.parse().ok()?, rest.split_once(" in)")?.0.parse().ok()?))
}

/// The comment with the name of a packet's remote, which only the stream of a tail has.
pub fn remote_comment(name: &str) -> String {
    format!("remote name={}", quoted(name))
}

/// Parses the name of the remote.
pub fn parse_remote(comment: &str) -> Option<String> {
    let mut name = None;
    each_value(comment.strip_prefix("remote ")?, |key, value| {
        if key == "name" {
            name = Some(value.as_str().filter(|name| name.len() <= MAX_NAME_BYTES)?.to_owned());
        }
        Some(())
    })?;
    name
}

/// A text that is not longer than what netwatch writes.
fn read_text(value: &serde_json::Value) -> Option<String> {
    value.as_str().filter(|text| text.len() <= MAX_TEXT_BYTES).map(str::to_owned)
}

/// A JSON string in which characters that a terminal interprets are written as `\u` escapes:
/// programs that show comments print them as they are.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    for c in serde_json::Value::from(text).to_string().chars() {
        match needs_escape(c) {
            // Four digits suffice: every such character is below U+10000.
            true => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
            false => quoted.push(c),
        }
    }
    quoted
}

/// Visits each `KEY=VALUE`, where the value is JSON. `None` if one of them is not.
fn each_value(mut rest: &str, mut visit: impl FnMut(&str, &serde_json::Value) -> Option<()>) -> Option<()> {
    while let Some((key, value)) = rest.split_once('=') {
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<serde_json::Value>();
        let parsed = values.next()?.ok()?;
        visit(key, &parsed)?;
        rest = value.get(values.byte_offset()..)?.trim_start();
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_one_line_whatever_the_names_are() {
        let process = CommentedProcess { pid: 7, uid: Some(8), comm: "a\"b\n".into(), exe: Some("/tmp/x y".into()) };
        assert_eq!(process.to_comment(), r#"process pid=7 uid=8 comm="a\"b\n" exe="/tmp/x y""#);
        assert_eq!(CommentedProcess::parse(&process.to_comment()), Some(process));
        let short = CommentedProcess { pid: 7, uid: None, comm: "a".into(), exe: None };
        assert_eq!(short.to_comment(), r#"process pid=7 comm="a""#);
    }

    #[test]
    fn what_a_terminal_interprets_is_escaped_and_read_back() {
        let (comm, name) = ("a\u{9b}2J\u{202e}\u{7f}", "x\u{2066}y\u{1b}[2J");
        let process = CommentedProcess { pid: 7, uid: None, comm: comm.into(), exe: Some("/tmp/grüße".into()) };
        let comment = process.to_comment();
        assert_eq!(comment, r#"process pid=7 comm="a\u009b2J\u202e\u007f" exe="/tmp/grüße""#);
        assert_eq!(CommentedProcess::parse(&comment), Some(process));
        let comment = remote_comment(name);
        assert!(!comment.contains(needs_escape), "{comment}");
        assert_eq!(parse_remote(&comment).as_deref(), Some(name));
    }

    #[test]
    fn the_comments_of_ptcpdump_are_parsed() {
        let exe = Some("/usr/bin/curl".to_owned());
        let theirs = CommentedProcess { pid: 1011, uid: None, comm: "curl".into(), exe };
        assert_eq!(CommentedProcess::parse("PID: 1011\nCmd: /usr/bin/curl\nArgs: curl -s"), Some(theirs));
    }

    #[test]
    fn other_comments_are_no_processes() {
        for comment in
            ["", "process", "process pid=x", "process comm=\"a\"", "process pid=99999999999", "PID: 0", "pid=1"]
        {
            assert!(CommentedProcess::parse(comment).is_none(), "{comment}");
        }
    }

    #[test]
    fn long_texts_are_not_read() {
        let comment = |length: usize| format!(r#"process pid=7 comm="{}""#, "x".repeat(length));
        assert!(CommentedProcess::parse(&comment(MAX_TEXT_BYTES)).is_some());
        assert!(CommentedProcess::parse(&comment(MAX_TEXT_BYTES + 1)).is_none());
        assert!(parse_remote(&remote_comment(&"x".repeat(MAX_NAME_BYTES))).is_some());
        assert!(parse_remote(&remote_comment(&"x".repeat(MAX_NAME_BYTES + 1))).is_none());
    }

    #[test]
    fn the_name_of_a_remote_is_read_back() {
        assert_eq!(parse_remote(&remote_comment("a\"b")).as_deref(), Some("a\"b"));
        assert_eq!(parse_remote("process pid=7"), None);
    }
}
