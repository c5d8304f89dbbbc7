//! `netwatch learn`: the smallest policy that allows what runs reached.

use super::check::today;
use super::policy_file::PolicyFile;
use super::source::Source;
use super::{open_output, write_result};
use crate::allow;
use crate::error::Result;
use crate::exit::Exit;
use crate::settings::LearnSettings;
use crate::terminal::print_message;

/// Exits as the command did, if there is one.
pub(super) fn learn(settings: &LearnSettings) -> Result<Exit> {
    // A wrong policy and a file that cannot be written are reported before the command runs.
    // A mistyped FILE of --update is an error, not a new policy.
    let old = settings.update.as_deref().map(PolicyFile::read).transpose()?;
    let output = open_output(settings.output.as_deref(), settings.source.inputs())?;
    let source = match Source::get(&settings.source)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let reports = source.reports();
    let list = old.as_ref().map(|old| old.list.clone()).unwrap_or_default();
    let rules = allow::learn(&reports, &list, today());
    match settings.update.as_deref().zip(old) {
        None => write_result(output, allow::policy(&rules, &reports).as_bytes())?,
        Some((path, old)) => {
            PolicyFile::append(path, &allow::addition(&rules, &reports, &old.text))?;
            print_message(&added(rules.len(), &path.display().to_string()));
        }
    }
    Ok(source.exit)
}

fn added(rules: usize, path: &str) -> String {
    match rules {
        0 => format!("{path} allows these runs already"),
        1 => format!("1 rule added to {path}"),
        many => format!("{many} rules added to {path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RunSource;

    #[test]
    fn an_update_makes_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("typo.toml");
        let settings =
            LearnSettings { update: Some(path.clone()), output: None, source: RunSource::Recorded(Vec::new()) };
        let error = learn(&settings).expect_err("no such file").to_string();
        assert!(error.ends_with("; write one with `netwatch learn > netwatch.toml`"), "{error}");
        assert!(!path.exists());
    }
}
