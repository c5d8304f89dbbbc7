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
    let old = match &settings.update {
        Some(path) if path.exists() => Some(PolicyFile::read(path)?),
        _ => None,
    };
    let output = open_output(settings.output.as_deref(), settings.source.inputs())?;
    let source = match Source::get(&settings.source)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let reports = source.reports();
    let list = old.as_ref().map(|old| old.list.clone()).unwrap_or_default();
    let rules = allow::learn(&reports, &list, today());
    match &settings.update {
        None => write_result(output, allow::policy(&rules, &reports).as_bytes())?,
        Some(path) => {
            let text = match &old {
                Some(old) => allow::addition(&rules, &reports, &old.text),
                None => allow::policy(&rules, &reports),
            };
            PolicyFile::append(path, &text)?;
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
