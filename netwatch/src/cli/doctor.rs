//! `netwatch doctor`: prints what `run` needs of this machine, a line each; exit code 1 if `run` would fail.

use std::io::Write;

use crate::doctor::{Context, Finding, Report};
use crate::exit::Exit;
use crate::host::firewall;

/// Examines and prints on standard output.
pub(super) fn main() -> Exit {
    let report = Report::examine(Context { firewall: inspect_firewall() });
    // A closed standard output takes away the text, not the verdict.
    let _ = write!(std::io::stdout().lock(), "{report}");
    if report.would_fail() { Exit::No } else { Exit::Success }
}

/// A line for each chain of another program that drops packets; or one that there is none.
fn inspect_firewall() -> Vec<Finding> {
    const WHAT: &str = "forward policy";
    let found = match firewall::inspect() {
        Ok(found) => found,
        Err(error) => return vec![Finding::warn(WHAT, error.to_string(), "run as root")],
    };
    if found.is_empty() {
        return vec![Finding::ok(WHAT, "no other program's chain drops forwarded packets")];
    }
    found.into_iter().map(explain).collect()
}

fn explain(finding: firewall::Finding) -> Finding {
    const WHAT: &str = "forward policy";
    match finding {
        firewall::Finding::Opens { chain, .. } => {
            Finding::ok(WHAT, format!("{chain} may drop packets; run opens it for its own interface"))
        }
        firewall::Finding::Blocked(blocked) => {
            Finding::warn(WHAT, format!("{}: {}", blocked.chain, blocked.cause), blocked.open)
        }
    }
}
