//! Judges the console output of a virtual machine. Pure: lines in, verdict out.

use serde_json::Value;

/// The start of each line that `init.sh` prints.
const MARK: &str = "netwatch-vm: ";

/// The result for one kernel.
#[derive(Debug, Default, PartialEq)]
pub struct VmVerdict {
    /// `uname -r`.
    pub release: Option<String>,
    /// Size of a page in KiB.
    pub page_kib: Option<u64>,
    /// From the last lines of libtest, which runs twice.
    pub passed: u64,
    /// Names.
    pub failed: Vec<String>,
    /// Names and reasons. libtest counts these as passed.
    pub skipped: Vec<(String, String)>,
    /// Instructions that the verifier processed.
    pub verified: Option<u64>,
    /// Whether doctor reports PREEMPT_RT.
    pub is_realtime: bool,
    /// Socket buffers that the complete run counted, if its balance closed.
    pub balanced: Option<u64>,
    /// Every problem.
    pub wrong: Vec<String>,
}

impl VmVerdict {
    /// Reads the console to its end.
    pub fn new<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut verdict = Self::default();
        let mut section = String::new();
        let mut done = false;
        for line in lines {
            match line.strip_prefix(MARK) {
                Some("done") => done = true,
                Some(report) => verdict.marked(report),
                None => verdict.test_output(line, &mut section),
            }
        }
        if !done {
            verdict.wrong.push("the machine stopped early".to_owned());
        }
        verdict.judge_tests();
        verdict
    }

    /// A line of `init.sh`.
    fn marked(&mut self, report: &str) {
        let (what, rest) = report.split_once(' ').unwrap_or((report, ""));
        match (what, rest) {
            ("booted", release) => self.release = Some(release.to_owned()),
            ("page", kib) => self.page_kib = kib.parse().ok(),
            ("report", json) => match balance(json).and_then(|skbs| times(json).map(|()| skbs)) {
                Ok(skbs) => self.balanced = Some(skbs),
                Err(wrong) => self.wrong.push(format!("netwatch run: {wrong}")),
            },
            ("modules", _) | (_, "0") => {}
            ("left-nothing", _) => self.wrong.push("netwatch run left changes behind".to_owned()),
            (what, code) => self.wrong.push(format!("{what}: exit code {code}")),
        }
    }

    /// A line of libtest. `section` is the test whose output follows.
    fn test_output(&mut self, line: &str, section: &mut String) {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            name.clone_into(section);
        } else if let Some(reason) = line.strip_prefix("skipped: ") {
            self.skipped.push((section.clone(), reason.to_owned()));
        } else if let Some(count) = line.strip_prefix("verified instructions: ") {
            self.verified = count.parse().ok();
        } else if let Some(kernel) = line.strip_prefix("ok    kernel: ") {
            self.is_realtime = kernel.contains("PREEMPT_RT");
        } else if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += number_before(counts, " passed");
        }
    }

    fn judge_tests(&mut self) {
        self.wrong.extend(self.failed.iter().map(|name| format!("{name} failed")));
        // A kernel may lack a feature. Any other reason is a fault of this set-up.
        let odd = self.skipped.iter().filter(|(_, reason)| !reason.starts_with("needs Linux "));
        self.wrong.extend(odd.map(|(name, reason)| format!("{name} was skipped: {reason}")));
        self.passed = self.passed.saturating_sub(self.skipped.len() as u64);
        if self.passed == 0 {
            self.wrong.push("no test passed".to_owned());
        }
        if self.balanced.is_none() {
            self.wrong.push("no balanced report of a complete run".to_owned());
        }
    }
}

fn number_before(text: &str, what: &str) -> u64 {
    let before = text.split(what).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Checks that the balance of a report is closed with a difference of 0. Returns the number of
/// socket buffers.
fn balance(json: &str) -> Result<u64, String> {
    let report: Value = serde_json::from_str(json).map_err(|error| format!("its report cannot be read: {error}"))?;
    let balance = &report["balance"];
    if balance["state"] != "closed" {
        return Err(format!("the balance is {}: {balance}", balance["state"]));
    }
    let places = ["egress/skbs", "egress/bytes", "ingress/skbs", "ingress/bytes"];
    let zero = |place: &&str| balance["difference"].pointer(&format!("/{place}")) == Some(&Value::from(0));
    if let Some(place) = places.iter().find(|place| !zero(place)) {
        return Err(format!("the difference is not 0 in {place}: {balance}"));
    }
    let counted = ["egress", "ingress"].map(|way| balance["counted"][way]["skbs"].as_u64().unwrap_or(0));
    if counted.contains(&0) { Err(format!("nothing was counted: {balance}")) } else { Ok(counted.iter().sum()) }
}

/// Checks that no duration contains the hour by which the client sets the wall clock ahead.
fn times(json: &str) -> Result<(), String> {
    const HOUR_NS: u64 = 3_600_000_000_000;
    let report: Value = serde_json::from_str(json).map_err(|error| format!("its report cannot be read: {error}"))?;
    let duration = report["run"]["duration_ns"].as_u64().unwrap_or(HOUR_NS);
    let hour = |time: &Value| time.as_str().and_then(|time| time.get(..13)).map(str::to_owned);
    let flows = report["flows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let apart = flows.iter().map(|flow| hour(&flow["first_seen"])).collect::<std::collections::BTreeSet<_>>();
    let longest = flows.iter().filter_map(|flow| flow["duration_ns"].as_u64()).max().unwrap_or(0);
    // A run that begins just before a full hour contains two hours.
    if duration >= HOUR_NS || longest >= HOUR_NS || apart.len() > 2 {
        return Err(format!(
            "the clock step is visible: {duration} ns, flows of up to {longest} ns in the hours {apart:?}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
netwatch-vm: booted 6.1.0-56-cloud-amd64
netwatch-vm: page 4
test meter::kernel::tests::golden::a ... ok
test meter::kernel::tests::link::tcx ... ok

successes:

---- meter::kernel::tests::size::b stdout ----
verified instructions: 9731

---- meter::kernel::tests::link::tcx stdout ----
skipped: needs Linux 6.6 (tcx)

test result: ok. 13 passed; 0 failed; 0 ignored; 0 measured; 198 filtered out; finished in 21.57s
netwatch-vm: tests 0
netwatch-vm: doctor 0
netwatch-vm: run 0
netwatch-vm: report {"run":{"duration_ns":5},"flows":[],"balance":{"state":"closed","counted":{"egress":{"skbs":3},"ingress":{"skbs":4}},"difference":{"egress":{"skbs":0,"bytes":0},"ingress":{"skbs":0,"bytes":0}}}}
netwatch-vm: left-nothing 0
netwatch-vm: modules cls_bpf veth
netwatch-vm: done
"#;

    fn verdict(text: &str) -> VmVerdict {
        VmVerdict::new(text.lines())
    }

    #[test]
    fn accepts_a_kernel_without_problems() {
        let tcx = ("meter::kernel::tests::link::tcx".to_owned(), "needs Linux 6.6 (tcx)".to_owned());
        let expected = VmVerdict {
            release: Some("6.1.0-56-cloud-amd64".into()),
            page_kib: Some(4),
            passed: 12,
            skipped: vec![tcx],
            verified: Some(9731),
            balanced: Some(7),
            ..VmVerdict::default()
        };
        assert_eq!(verdict(GOOD), expected);
    }

    #[test]
    fn reads_the_kernel_from_the_output_of_doctor() {
        let doctor =
            |line: &str| verdict(&GOOD.replace("netwatch-vm: doctor", &format!("{line}\nnetwatch-vm: doctor")));
        assert!(doctor("ok    kernel: 6.1.0-56-rt-amd64 with PREEMPT_RT: slower").is_realtime);
        assert!(!doctor("ok    kernel: 6.1.0-56-cloud-amd64").is_realtime);
    }

    #[test]
    fn reports_every_problem() {
        let table = [
            ("golden::a ... ok", "golden::a ... FAILED", "meter::kernel::tests::golden::a failed"),
            (
                "skipped: needs Linux 6.6 (tcx)",
                "skipped: needs root",
                "meter::kernel::tests::link::tcx was skipped: needs root",
            ),
            ("13 passed", "1 passed", "no test passed"),
            ("tests 0", "tests 143", "tests: exit code 143"),
            ("run 0", "run 125", "run: exit code 125"),
            ("closed", "open", "netwatch run: the balance is \"open\""),
            (
                "\"ingress\":{\"skbs\":0,\"bytes\":0}",
                "\"ingress\":{\"skbs\":0,\"bytes\":4}",
                "netwatch run: the difference is not 0 in ingress/bytes",
            ),
            ("\"duration_ns\":5", "\"duration_ns\":3600000000005", "netwatch run: the clock step is visible"),
            ("\"skbs\":4", "\"skbs\":0", "netwatch run: nothing was counted"),
            ("report {", "report ", "netwatch run: its report cannot be read"),
            ("left-nothing 0", "left-nothing 1", "netwatch run left changes behind"),
            ("vm: done", "vm: d", "the machine stopped early"),
            ("netwatch-vm: report", "lost", "no balanced report of a complete run"),
        ];
        for (from, to, expected) in table {
            assert!(GOOD.contains(from), "{from}");
            let wrong = verdict(&GOOD.replace(from, to)).wrong;
            assert!(wrong.iter().any(|line| line.starts_with(expected)), "{to}: {wrong:?}");
        }
    }
}
