//! `netwatch doctor`: prints one line for each requirement of `run`. Exits with 1 if `run` would fail.

use std::io::Write;

use crate::doctor::{Context, Finding, Report};
use crate::exit::Exit;
use crate::host::firewall;

/// The subject of the findings about the host's firewall.
const SUBJECT: &str = "forward policy";

pub(super) fn doctor() -> Exit {
    let report = Report::examine(Context { firewall: inspect_firewall() });
    // If standard output is closed, the exit code still reports the result.
    let _ = write!(std::io::stdout().lock(), "{report}");
    if report.would_fail() { Exit::No } else { Exit::Success }
}

/// One finding for each chain of another program that drops forwarded packets.
fn inspect_firewall() -> Vec<Finding> {
    let found = match firewall::inspect() {
        Ok(found) => found,
        Err(error) => return vec![Finding::warn(SUBJECT, error.to_string(), "run as root")],
    };
    if found.is_empty() {
        return vec![Finding::ok(SUBJECT, "no chain of another program drops forwarded packets")];
    }
    found.into_iter().map(explain).collect()
}

fn explain(finding: firewall::Finding) -> Finding {
    match finding {
        firewall::Finding::Opens { chain, .. } => {
            Finding::ok(SUBJECT, format!("{chain} may drop packets; run opens it for its own interface"))
        }
        firewall::Finding::Blocked(blocked) => {
            Finding::warn(SUBJECT, format!("{}: {}", blocked.chain, blocked.cause), blocked.open)
        }
    }
}
