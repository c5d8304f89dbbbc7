//! Whether flows can be given to processes: `run`'s own programs are loaded. Without them a run counts the same.

use super::Finding;
use crate::meter::{ProcessTracer, ProcessTracerConfig};

/// What the kernel takes of the programs.
pub(super) fn named() -> Finding {
    match ProcessTracer::load(ProcessTracerConfig { cmdline: true, failed_calls: false }) {
        Ok(probe) => {
            let refused: Vec<&str> = probe.refused().map(|(name, _)| name).chain(probe.untried()).collect();
            if refused.is_empty() {
                return Finding::ok("processes", "flows can be given to processes, unix sockets listed");
            }
            Finding::warn(
                "processes",
                format!("this kernel has no place for {}", refused.join(", ")),
                "run works; docs/limits.md says what is then not seen",
            )
        }
        Err(error) => Finding::warn("processes", error.to_string(), "run works, without naming processes"),
    }
}
