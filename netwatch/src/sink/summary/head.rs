//! The first lines: what ran, how it ended, how long it took.

use super::line::{Line, Style};
use super::text::{command, cut, wrap};
use super::units::duration;
use crate::flow::{EndedBy, Exit, Run};
use crate::sink::escape;

const NAME: &str = "netwatch: ";

pub(super) fn lines(run: &Run, complete: bool, width: usize) -> Vec<Line> {
    let title = cut(&command(&run.command), width - NAME.len());
    let mut lines = vec![Line::new(Style::Faint, NAME).with(Style::Strong, title)];
    let style = if run.exit == Some(Exit::Code(0)) || !complete { Style::Plain } else { Style::Warning };
    let pid = run.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let who = format!("user {}{pid}, run {}", escape(&run.user), escape(&run.id));
    let said = format!("{}, {who}", ending(run, complete));
    lines.extend(wrap(&said, width).into_iter().map(|part| Line::new(style, part)));
    lines
}

fn ending(run: &Run, complete: bool) -> String {
    let after = duration(run.duration_ns);
    if !complete && run.exit.is_none() {
        return format!("interim, still running after {after}");
    }
    let how = match run.exit {
        Some(Exit::Code(code)) => format!("exit code {code} after {after}"),
        Some(Exit::Signal(signal)) => format!("killed by {} after {after}", signal_name(signal)),
        None => format!("no exit code after {after}"),
    };
    match run.ended_by {
        EndedBy::Command => how,
        EndedBy::Duration => format!("{how} (ended by --duration)"),
        EndedBy::Signal(signal) => format!("{how} (netwatch received {})", signal_name(signal)),
    }
}

fn signal_name(signal: i32) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}
