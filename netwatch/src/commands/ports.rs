//! `netwatch ports`: the network access that a program needs, as a table or as firewall rules.

use super::source::Source;
use super::{open_output, plain_width, write_result};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::policy;
use crate::settings::PortsSettings;

/// Exits as the command did, if there is one.
pub(super) fn ports(settings: &PortsSettings) -> Result<Exit> {
    require_user(&settings.rules)?;
    // A file that cannot be written is reported before the command runs.
    let output = open_output(settings.output.as_deref(), settings.source.inputs())?;
    let source = match Source::get(&settings.source)? {
        Ok(source) => source,
        Err(exit) => return Ok(exit),
    };
    let mut text = Vec::new();
    let rules = policy::RuleOptions { width: Some(plain_width(output.is_some())), ..settings.rules.clone() };
    policy::write(settings.format, &source.reports(), &rules, &mut text)
        .map_err(|error| Error::os("write", settings.format.name(), error))?;
    write_result(output, &text)?;
    Ok(source.exit)
}

/// Fails if the user of `--for-user` does not exist: the rules would be refused when they are
/// loaded.
pub(super) fn require_user(rules: &policy::RuleOptions) -> Result<()> {
    let Some(user) = &rules.user else { return Ok(()) };
    let is_known = user.parse::<u32>().is_ok() || nix::unistd::User::from_name(user).is_ok_and(|found| found.is_some());
    let unknown = || Error::other("write rules for user", user.clone(), "no such user");
    if is_known { Ok(()) } else { Err(unknown().hint("for a user of another machine, give the uid")) }
}
