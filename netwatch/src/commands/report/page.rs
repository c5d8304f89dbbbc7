//! The HTML page: gathers what it shows besides the run.

use std::path::PathBuf;

use crate::allow;
use crate::commands::check::today;
use crate::commands::load::{LoadedRun, load_runs};
use crate::commands::policy_file::PolicyFile;
use crate::diff::{self, DiffOptions};
use crate::error::Result;
use crate::format::check::CheckedPolicy;
use crate::format::html::{self, Baseline, Page};
use crate::policy::{RuleOptions, page_ports};
use crate::settings::ReportSettings;
use crate::terminal::Spinner;

/// What was named beside the run.
pub(super) struct PageContext {
    policy: Option<(PathBuf, PolicyFile)>,
    baseline: Option<LoadedRun>,
}

impl PageContext {
    /// Reads the policy and the earlier run.
    pub(super) fn load(settings: &ReportSettings, spinner: &Spinner) -> Result<Self> {
        let policy = settings.policy.as_ref().map(|path| PolicyFile::read(path).map(|file| (path.clone(), file)));
        let baseline = settings.baseline.as_ref().map(|run| load_runs(std::slice::from_ref(run), spinner));
        Ok(Self { policy: policy.transpose()?, baseline: baseline.transpose()?.and_then(|mut runs| runs.pop()) })
    }

    /// Writes the page of a run.
    pub(super) fn write(&self, run: &LoadedRun, options: &RuleOptions, out: &mut Vec<u8>) -> std::io::Result<()> {
        let report = &run.report;
        let ports = page_ports(report, run.selector(), options);
        let verdict = self.policy.as_ref().map(|(path, policy)| {
            (path.display().to_string(), &policy.list, allow::check(&[report], &policy.list, today()))
        });
        let comparison =
            self.baseline.as_ref().map(|old| (old, diff::compare(&[&old.report], &[report], &DiffOptions::default())));
        let page = Page {
            ports: Some(&ports),
            checked: verdict.as_ref().map(|(file, list, verdict)| CheckedPolicy { file, list, verdict }),
            baseline: comparison.as_ref().map(|(old, comparison)| Baseline { report: &old.report, comparison }),
            ..Page::new(report)
        };
        html::write(&page, out)
    }
}
