//! Checks the requirements of `netwatch run` on this machine. Where possible a check performs the
//! operation itself, in a new network namespace. Changes nothing on the host, and repairs nothing:
//! each failed check has advice.

mod capabilities;
mod limits;
mod machine;
mod meter;
mod network;

use std::fmt;

pub use capabilities::require_capabilities;
pub use limits::require_limits;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckStatus {
    /// The requirement is met.
    Ok,
    /// `run` works with restrictions.
    Warn,
    /// `run` would fail.
    Fail,
}

/// One line of the report: a requirement and the result of its check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The result.
    pub status: CheckStatus,
    /// The requirement.
    pub subject: &'static str,
    /// What was found.
    pub detail: String,
    /// What to do, unless the status is [`CheckStatus::Ok`].
    pub advice: Option<String>,
}

impl Check {
    fn ok(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { status: CheckStatus::Ok, subject, detail: detail.into(), advice: None }
    }

    fn warn(subject: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: CheckStatus::Warn, subject, detail: detail.into(), advice: Some(advice.into()) }
    }

    fn fail(subject: &'static str, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: CheckStatus::Fail, subject, detail: detail.into(), advice: Some(advice.into()) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.status {
            CheckStatus::Ok => "ok",
            CheckStatus::Warn => "warn",
            CheckStatus::Fail => "fail",
        };
        write!(f, "{status:<4}  {}: {}", self.subject, self.detail)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, " → {advice}"))
    }
}

/// The results of all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorReport {
    checks: Vec<Check>,
}

impl DoctorReport {
    /// Runs all checks, in about 0.1 s; up to 2 s longer if a resolver does not answer.
    pub fn examine() -> Self {
        let mut checks = vec![machine::kernel(), capabilities::effective()];
        checks.extend(limits::checks());
        let (classifier, kernel_maps_bytes) = meter::classifier();
        checks.extend(classifier);
        let cgroup = machine::cgroup();
        let has_cgroup = cgroup.status == CheckStatus::Ok;
        checks.extend([
            network::nf_tables(),
            cgroup,
            meter::processes(has_cgroup),
            machine::namespaces(),
            machine::run_directory(),
            network::uplink(),
            network::forwarding(),
            network::resolvers(),
            network::output_policy(),
        ]);
        checks.extend(network::firewall());
        checks.push(machine::memory(kernel_maps_bytes));
        Self { checks }
    }

    /// Whether `run` would fail.
    pub fn would_fail(&self) -> bool {
        self.checks.iter().any(|check| check.status == CheckStatus::Fail)
    }
}

impl fmt::Display for DoctorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checks.iter().try_for_each(|check| writeln!(f, "{check}"))?;
        let verdict = if self.would_fail() { "`netwatch run` would fail here" } else { "`netwatch run` works here" };
        writeln!(f, "{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use snapbox::{assert_data_eq, str};

    use super::*;

    #[test]
    fn prints_one_line_per_check_and_a_verdict() {
        let mut report = DoctorReport {
            checks: vec![
                Check::ok("kernel", "6.18.0"),
                Check::warn("uplink", "no default route", "the command can reach only this host"),
            ],
        };
        assert_data_eq!(
            report.to_string(),
            str![[r#"
ok    kernel: 6.18.0
warn  uplink: no default route → the command can reach only this host
`netwatch run` works here

"#]]
        );
        report.checks.push(Check::fail("capabilities", "missing: CAP_BPF", "run with sudo"));
        assert!(report.would_fail());
        assert_data_eq!(report.to_string().lines().last().unwrap(), "`netwatch run` would fail here");
    }

    /// In a network namespace of its own: a test queries no resolver of the machine.
    #[test]
    fn examines_this_machine() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let report = crate::host::namespace::in_new(DoctorReport::examine).expect("a network namespace");
        eprint!("{report}");
        for subject in [
            "kernel",
            "capabilities",
            "open files",
            "file size",
            "bpf",
            "btf",
            "attach",
            "attach --cgroup",
            "nf_tables",
            "cgroup",
            "processes",
            "namespaces",
            "/run",
            "uplink",
            "forwarding",
            "resolvers",
            "forward policy",
            "memory",
        ] {
            assert!(report.checks.iter().any(|check| check.subject == subject), "{subject}");
        }
        assert!(report.checks.iter().all(|check| check.status == CheckStatus::Ok || check.advice.is_some()));
    }
}
