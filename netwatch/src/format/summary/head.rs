//! The first lines: the command, its exit and its duration; or the replayed capture.

use super::line::{Line, Style};
use super::text::{command, cut, together, wrap};
use super::units::{duration, plural};
use crate::format::{escape, rfc3339, words};
use crate::report::{EndedBy, ExitStatus, Replay, Report};

const NAME: &str = "netwatch: ";

pub(super) fn lines(report: &Report, width: usize) -> Vec<Line> {
    match &report.replay {
        Some(replay) => replayed(replay, width),
        None => ran(report, width),
    }
}

fn replayed(replay: &Replay, width: usize) -> Vec<Line> {
    let title = cut(&command(&["replay".to_owned(), replay.file.clone()]), width - NAME.len());
    let mut lines = vec![Line::new(Style::Faint, NAME).with(Style::Strong, title)];
    let kind = [&[replay.format.to_owned()][..], &replay.link_types].concat().join(", ");
    let frames = plural(replay.frames.skbs, "frame", "frames");
    let time = match replay.frames.skbs {
        0 => String::new(),
        _ => format!(" over {} from {}", together(&duration(replay.duration_ns)), to_the_second(replay.started_ns)),
    };
    let engine = if replay.by_kernel { ", counted by the kernel" } else { "" };
    let text = format!("{}: {frames}{time}{engine}", escape(&kind));
    lines.extend(wrap(&text, width).into_iter().map(|part| Line::new(Style::Plain, part)));
    if let Some(end) = &replay.ended_early {
        let text = format!("incomplete: the file was read up to byte {}: {}", end.offset, escape(&end.cause));
        lines.extend(wrap(&text, width).into_iter().map(|part| Line::new(Style::Bad, part)));
    }
    lines
}

/// `2026-03-01T12:00:00Z`.
pub(in crate::format) fn to_the_second(unix_ns: u64) -> String {
    let exact = rfc3339(unix_ns);
    exact.split('.').next().map(|seconds| format!("{seconds}Z")).unwrap_or(exact)
}

fn ran(report: &Report, width: usize) -> Vec<Line> {
    let run = &report.run;
    let title = cut(&command(&run.command), width - NAME.len());
    let mut lines = vec![Line::new(Style::Faint, NAME).with(Style::Strong, title)];
    let is_interim = !report.complete && !words::ends_early(report);
    let style = if run.exit == Some(ExitStatus::Code(0)) || is_interim { Style::Plain } else { Style::Warning };
    let pid = run.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let user = format!("user {}{pid}, run {}", escape(&run.user), escape(&run.id));
    let text = format!("{}, {user}", ending(report));
    lines.extend(wrap(&text, width).into_iter().map(|part| Line::new(style, part)));
    lines
}

/// `exit code 0 after 1.24 s`.
pub(in crate::format) fn ending(report: &Report) -> String {
    let run = &report.run;
    let after = duration(run.duration_ns);
    if words::ends_early(report) {
        return format!("incomplete: data ends at {after}");
    }
    if !report.complete && run.exit.is_none() {
        return format!("interim, still running after {after}");
    }
    let how = match run.exit {
        Some(ExitStatus::Code(code)) => format!("exit code {code} after {after}"),
        Some(ExitStatus::Signal(signal)) => format!("killed by {} after {after}", signal_name(signal)),
        None => format!("no exit code after {after}"),
    };
    match run.ended_by {
        Some(EndedBy::Command) | None => how,
        Some(EndedBy::Duration) => format!("{how} (ended by --duration)"),
        Some(EndedBy::Signal(signal)) => format!("{how} (netwatch received {})", signal_name(signal)),
    }
}

pub(in crate::format) fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}
