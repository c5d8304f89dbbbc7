//! What `run` needs of this machine: one small check a file, each tries the thing itself where that is possible, in a namespace of its
//! own. Changes nothing. Not the repair: each line says what to do.

mod bpf;
mod capabilities;
mod host;
mod kernel;
mod memory;
mod network;
mod processes;

use std::fmt;

pub use capabilities::missing as missing_capabilities;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// `run` works, with less.
    Warn,
    /// `run` would fail.
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, detail: detail.into(), advice: None }
    }

    /// `run` works, with less.
    pub fn warn(what: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warn, what, detail: detail.into(), advice: Some(advice.into()) }
    }

    /// `run` would fail.
    pub fn fail(what: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fail, what, detail: detail.into(), advice: Some(advice.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        write!(f, "{level:<4}  {}: {}", self.what, self.detail)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, " → {advice}"))
    }
}

/// What other parts of netwatch know and the checks here do not.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The findings of the firewall's inspection: forward policy, chains that drop, NAT.
    pub firewall: Vec<Finding>,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Looks at everything; a tenth of a second.
    pub fn examine(context: Context) -> Self {
        let mut findings = vec![kernel::version(), capabilities::effective()];
        let (bpf, kernel_maps_bytes) = bpf::all();
        findings.extend(bpf);
        findings.extend([
            network::nf_tables(),
            host::cgroup(),
            processes::named(),
            host::namespaces(),
            host::run_directory(),
            network::uplink(),
            network::resolver(),
        ]);
        findings.extend(context.firewall);
        findings.push(memory::budget(kernel_maps_bytes));
        Self { findings }
    }

    /// The lines, in the order in which they are printed.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether `run` would fail.
    pub fn would_fail(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Fail)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        let verdict = if self.would_fail() { "`netwatch run` would fail here" } else { "`netwatch run` works here" };
        writeln!(f, "{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;

    #[test]
    fn a_line_each_and_a_verdict() {
        let mut report = Report {
            findings: vec![
                Finding::ok("kernel", "6.18.0"),
                Finding::warn("uplink", "no default route", "the command reaches this host only"),
            ],
        };
        assert_data_eq!(
            report.to_string(),
            str![[r#"
ok    kernel: 6.18.0
warn  uplink: no default route → the command reaches this host only
`netwatch run` works here

"#]]
        );
        report.findings.push(Finding::fail("capabilities", "CAP_BPF is missing", "run with sudo"));
        assert!(report.would_fail());
        assert_data_eq!(report.to_string().lines().last().unwrap(), "`netwatch run` would fail here");
    }

    #[test]
    fn examines_this_machine() {
        let report = Report::examine(Context { firewall: vec![Finding::ok("forward policy", "accept")] });
        eprint!("{report}");
        for what in [
            "kernel",
            "capabilities",
            "bpf",
            "btf",
            "attach",
            "nf_tables",
            "cgroup",
            "processes",
            "uplink",
            "forward policy",
            "memory",
        ] {
            assert!(report.findings().iter().any(|finding| finding.what == what), "{what}");
        }
        assert!(report.findings().iter().all(|finding| finding.level == Level::Ok || finding.advice.is_some()));
    }
}
