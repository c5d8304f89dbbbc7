//! `netwatch check`: whether runs reached only what a policy allows.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use super::policy_file::PolicyFile;
use super::source::Source;
use super::{open_output, write_result};
use crate::allow::{self, PolicyDate};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::format::check::{CheckFormat, CheckedPolicy, write};
use crate::rights;
use crate::settings::CheckSettings;
use crate::terminal::{print_error, print_message, print_text};

/// Exits with [`Exit::Negative`] if the check fails, otherwise as the command did, if there is one.
pub(super) fn check(settings: &CheckSettings) -> Result<Exit> {
    // A wrong policy and a file that cannot be written are reported before the command runs.
    let policy = PolicyFile::read(&settings.policy)?;
    let inputs = [settings.source.inputs(), &[settings.policy.display().to_string()]].concat();
    let output = open_output(settings.output.as_deref(), &inputs)?;
    let source = match Source::get(&settings.source)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let mut verdict = allow::check(&source.reports(), &policy.list, today());
    verdict.allows_uncertain |= settings.allow_uncertain;
    let file = settings.shown_as.clone().unwrap_or_else(|| settings.policy.display().to_string());
    let checked = CheckedPolicy { file: &file, list: &policy.list, verdict: &verdict };
    if output.is_some() || !settings.quiet {
        write_result(output, &text(&checked, settings.format)?)?;
    }
    if let Err(error) = report_to_github(&checked, is_annotated(settings)) {
        print_error(&error);
    }
    if let Some(message) = ending(source.exit) {
        print_message(&message);
    }
    Ok(if verdict.fails() { Exit::Negative } else { source.exit })
}

/// How a command ended that did not succeed.
fn ending(exit: Exit) -> Option<String> {
    let code = exit.code();
    match exit {
        Exit::Success | Exit::Command(0) => None,
        Exit::Command(_) => Some(format!("the command failed with code {code}")),
        Exit::Signalled(signal) => Some(format!("signal {signal} ended the command")),
        Exit::Threshold(_) => Some(format!("a threshold of the run was crossed; code {code}")),
        Exit::Duration => Some(format!("the maximum duration ended the command; code {code}")),
        Exit::NotExecutable => Some(format!("the command is not executable; code {code}")),
        Exit::NotFound => Some(format!("the command was not found; code {code}")),
        Exit::Negative | Exit::Error | Exit::Failed => Some(format!("the run failed with code {code}")),
    }
}

fn text(checked: &CheckedPolicy<'_>, format: CheckFormat) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    write(checked, format, &mut text).map_err(|error| Error::os("write", "the verdict", error))?;
    Ok(text)
}

/// Whether the verdict itself annotates: the log of the job contains no file.
fn is_annotated(settings: &CheckSettings) -> bool {
    settings.format == CheckFormat::Github && settings.output.is_none() && !settings.quiet
}

/// In GitHub Actions, annotates the policy and adds to the summary of the job. Annotations are read
/// from standard error too, so that standard output keeps its format.
fn report_to_github(checked: &CheckedPolicy<'_>, is_annotated: bool) -> Result<()> {
    if env::var_os("GITHUB_ACTIONS") != Some(OsString::from("true")) {
        return Ok(());
    }
    if !is_annotated {
        let annotations = text(checked, CheckFormat::Github)?;
        print_text(move || String::from_utf8_lossy(&annotations).into_owned());
    }
    match env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) {
        Some(path) => append(Path::new(&path), &text(checked, CheckFormat::Markdown)?),
        None => Ok(()),
    }
}

fn append(path: &Path, text: &[u8]) -> Result<()> {
    let caller = rights::caller()?;
    let open = || std::fs::OpenOptions::new().append(true).create(true).open(path);
    let written = rights::as_user((caller.uid, caller.gid), open).and_then(|mut file| file.write_all(text));
    written.map_err(|error| Error::os("write", path.display().to_string(), error))
}

/// Today in UTC, on which a rule may have expired.
pub(super) fn today() -> PolicyDate {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    PolicyDate::of_text(&now).expect("a time begins with its date")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RunSource;

    #[test]
    fn the_message_has_the_cause_of_the_exit_code() {
        let table = [
            (Exit::Success, None),
            (Exit::Command(0), None),
            (Exit::Command(7), Some("the command failed with code 7")),
            (Exit::Threshold(121), Some("a threshold of the run was crossed; code 121")),
            (Exit::Signalled(9), Some("signal 9 ended the command")),
        ];
        for (exit, expected) in table {
            assert_eq!(ending(exit).as_deref(), expected, "{exit:?}");
        }
    }

    #[test]
    fn annotations_in_a_file_annotate_nothing() {
        let settings = |format, output: Option<&str>| CheckSettings {
            policy: "netwatch.toml".into(),
            shown_as: None,
            format,
            output: output.map(Into::into),
            quiet: false,
            allow_uncertain: false,
            source: RunSource::Recorded(Vec::new()),
        };
        assert!(is_annotated(&settings(CheckFormat::Github, None)));
        assert!(!is_annotated(&settings(CheckFormat::Github, Some("annotations.txt"))));
        assert!(!is_annotated(&settings(CheckFormat::Text, None)));
    }
}
