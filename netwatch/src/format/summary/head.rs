//! The first lines: the command, its exit and its duration; or the replayed capture.

use super::line::{Line, Style};
use super::text::{command, cut, together, width as width_of, wrap};
use super::units::{duration, plural};
use super::{SummaryOptions, failed, hosts};
use crate::format::{escape, rfc3339, threshold, words};
use crate::report::{EndedBy, ExitStatus, Replay, Report};

const NAME: &str = "netwatch: ";
/// Columns that the program gets at least.
const MIN_TITLE: usize = 20;
/// Programs listed in the title.
const MAX_PROGRAMS: usize = 3;

pub(super) fn lines(report: &Report, options: &SummaryOptions, width: usize) -> Vec<Line> {
    let mut lines = match &report.replay {
        Some(replay) => replayed(replay, width),
        None => ran(report, options, width),
    };
    lines.extend(wrap(&totals(report), width).into_iter().map(|part| Line::new(Style::Plain, part)));
    lines
}

/// `10 endpoints, 35 connections, 121 kB sent, 1.87 MB received, 4 failures`.
fn totals(report: &Report) -> String {
    match failed::number(report) {
        0 => hosts::totals(report),
        failures => format!("{}, {}", hosts::totals(report), plural(failures, "failure", "failures")),
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
    if replay.missing > 0 {
        let packets = plural(replay.missing, "packet", "packets");
        let text = format!("incomplete: the file states that it misses {packets}, which are in no count");
        lines.extend(wrap(&text, width).into_iter().map(|part| Line::new(Style::Bad, part)));
    }
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

fn ran(report: &Report, options: &SummaryOptions, width: usize) -> Vec<Line> {
    let run = &report.run;
    let is_interim = !report.complete && !words::ends_early(report);
    let is_success = run.exit == Some(ExitStatus::Code(0)) && !threshold::fails(report);
    let style = if is_success || is_interim { Style::Plain } else { Style::Warning };
    let code = options.exit_code.map(|code| format!(": exit code {code}")).unwrap_or_default();
    let (ending, id) = (format!(": {}{code}", ending(report)), format!("run {}", escape(&run.id)));
    let room = width.saturating_sub(width_of(&ending)).max(MIN_TITLE);
    let title = cut(&program(report), room);
    let used = width_of(&title) + width_of(&ending);
    let mut lines = vec![Line::new(Style::Strong, title)];
    if used <= width {
        lines[0] = std::mem::take(&mut lines[0]).with(style, ending);
    } else {
        lines.extend(wrap(ending.trim_start_matches(": "), width).into_iter().map(|part| Line::new(style, part)));
    }
    // On the right of the first line, if there is space.
    match width.checked_sub(used + width_of(&id) + 2) {
        Some(gap) => {
            lines[0] = std::mem::take(&mut lines[0]).with(Style::Faint, format!("{}{id}", " ".repeat(gap + 2)))
        }
        None => lines.extend(wrap(&id, width).into_iter().map(|part| Line::new(Style::Faint, part))),
    }
    if options.verbose {
        let pid = run.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let text = format!("{}; user {}{pid}", command(&run.command), escape(&run.user));
        lines.extend(wrap(&text, width).into_iter().map(|part| Line::new(Style::Faint, part)));
    }
    lines
}

/// The command line; of a wrapper, the script or the programs that it ran.
pub(in crate::format) fn program(report: &Report) -> String {
    let programs = report.subjects();
    let own = report.processes.list.first().map(|process| process.program());
    let is_wrapped = own.is_some_and(|own| programs.first().is_some_and(|first| first != own));
    if !is_wrapped {
        return command(&report.run.command);
    }
    let shown: Vec<_> = programs.iter().take(MAX_PROGRAMS).map(|program| escape(program).into_owned()).collect();
    let more = if programs.len() > MAX_PROGRAMS {
        format!(" and {} more", programs.len() - MAX_PROGRAMS)
    } else {
        String::new()
    };
    shown.join(", ") + &more
}

/// `exit 0 in 1.24 s`.
pub(in crate::format) fn ending(report: &Report) -> String {
    let run = &report.run;
    let after = duration(run.duration_ns);
    if words::ends_early(report) {
        return format!("incomplete: data ends at {after}");
    }
    if !report.complete && run.exit.is_none() {
        return format!("interim, still running after {after}");
    }
    let but = if run.exit == Some(ExitStatus::Code(0)) && threshold::fails(report) {
        ", but a threshold was crossed"
    } else {
        ""
    };
    if run.is_attached() {
        return attached(report, &after) + but;
    }
    let how = match run.exit {
        Some(ExitStatus::Code(code)) => format!("exit {code} in {after}"),
        Some(ExitStatus::Signal(signal)) => format!("killed by {} after {after}", signal_name(signal)),
        None => format!("no exit code after {after}"),
    };
    match run.ended_by {
        Some(EndedBy::Command) | None => how + but,
        Some(EndedBy::Duration) => format!("{how} (ended by --duration)"),
        Some(EndedBy::Signal(signal)) => format!("{how} (netwatch received {})", signal_name(signal)),
    }
}

/// `attached for 1.24 s (received SIGINT)`.
fn attached(report: &Report, time: &str) -> String {
    let why = match report.run.ended_by {
        Some(EndedBy::Command) => " (the target ended)".to_owned(),
        Some(EndedBy::Duration) => " (--duration)".to_owned(),
        Some(EndedBy::Signal(signal)) => format!(" (received {})", signal_name(signal)),
        None => String::new(),
    };
    format!("attached for {time}{why}")
}

pub(in crate::format) fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}
