//! The flags of `netwatch ports` that decide what is listed, and how.

use std::net::IpAddr;

use clap::{Args, value_parser};

use crate::error::{Error, Result};
use crate::policy::{self, AddressFamily, Generalize, RuleOptions};
use crate::settings::value::parse_user;

/// The heading of the flags in the help.
const HEADING: &str = "What is listed";

/// None of these can be set in the environment: a variable would make every other format fail.
#[derive(Debug, Args)]
#[command(next_help_heading = HEADING)]
pub(super) struct RulesArgs {
    /// Fold addresses into prefixes, names into wildcards, ports into ranges
    ///
    /// `netwatch help firewall` describes the rules.
    #[arg(long, alias = "generalise")]
    generalize: bool,

    /// Shortest IPv4 prefix that --generalize writes [default: 24]
    #[arg(long, value_name = "LENGTH", requires = "generalize", value_parser = value_parser!(u8).range(8..=32))]
    prefix4: Option<u8>,

    /// Shortest IPv6 prefix that --generalize writes [default: 64]
    #[arg(long, value_name = "LENGTH", requires = "generalize", value_parser = value_parser!(u8).range(16..=128))]
    prefix6: Option<u8>,

    /// Minimum number of names for --generalize to write *.PARENT [default: 3]
    #[arg(long, value_name = "N", requires = "generalize", value_parser = value_parser!(u16).range(2..))]
    siblings: Option<u16>,

    /// Resolver of your users, to which DNS is allowed (repeatable)
    ///
    /// The default depends on the format: see `netwatch help firewall`.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    resolver: Vec<IpAddr>,

    /// Also allow endpoints to which every attempt failed
    #[arg(long)]
    with_failed: bool,

    /// Leave out addresses that DNS returned but that were not used
    #[arg(long)]
    only_used: bool,

    /// No effect; kept for old command lines
    #[arg(long, hide = true, conflicts_with = "only_used")]
    with_answers: bool,

    /// Open ports only to the remotes that connected, not to everyone
    #[arg(long)]
    by_remote: bool,

    /// nft and iptables: filter only traffic sent by this user (name or uid)
    #[arg(long, value_name = "USER", value_parser = parse_user)]
    for_user: Option<String>,

    /// k8s and cilium: name of the policy [default: the program's name]
    ///
    /// The policy selects the label `app` with this value: at most 63 lower-case letters, digits
    /// and dashes.
    #[arg(long, value_name = "NAME", value_parser = parse_policy_name)]
    policy_name: Option<String>,

    /// iptables: write rules of this family only, for (ip6)tables-restore
    #[arg(long, value_name = "4|6", value_parser = parse_family)]
    family: Option<AddressFamily>,
}

fn parse_family(text: &str) -> Result<AddressFamily, String> {
    match text {
        "4" => Ok(AddressFamily::V4),
        "6" => Ok(AddressFamily::V6),
        _ => Err("expected 4 or 6".to_owned()),
    }
}

/// A name that is typed is not changed.
fn parse_policy_name(text: &str) -> Result<String, String> {
    let expected = "expected at most 63 lower-case letters, digits and dashes, without a dash at an end (RFC 1123)";
    if policy::is_label(text) { Ok(text.to_owned()) } else { Err(expected.to_owned()) }
}

impl RulesArgs {
    /// Fails on a flag that does not apply to the format, which has this name. Without a format, no
    /// flag applies.
    pub(super) fn options(self, format: Option<policy::RuleFormat>, name: &str) -> Result<RuleOptions> {
        let applies = |formats: &[policy::RuleFormat]| format.is_some_and(|format| formats.contains(&format));
        if let Some((flag, formats)) = self.given().find(|(_, formats)| !applies(formats)) {
            let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
            let cause = format!("the flag does not apply to format {name}");
            return Err(Error::other("use", flag, cause).hint(format!("use it with --format {}", names.join(", "))));
        }
        let default = Generalize::default();
        let generalize = Generalize {
            v4: self.prefix4.unwrap_or(default.v4),
            v6: self.prefix6.unwrap_or(default.v6),
            names: self.siblings.map_or(default.names, usize::from),
        };
        Ok(RuleOptions {
            generalize: self.generalize.then_some(generalize),
            resolvers: self.resolver,
            with_failed: self.with_failed,
            only_used: self.only_used,
            by_remote: self.by_remote,
            user: self.for_user,
            name: self.policy_name,
            family: self.family,
            width: None,
        })
    }

    /// The flags on the command line, each with the formats it applies to.
    fn given(&self) -> impl Iterator<Item = (&'static str, &'static [policy::RuleFormat])> {
        use policy::RuleFormat::{Cilium, Iptables, K8s, Nft};
        let all = &policy::RuleFormat::ALL;
        let flags: [(bool, &str, &[policy::RuleFormat]); 9] = [
            (self.generalize, "--generalize", all),
            (!self.resolver.is_empty(), "--resolver", all),
            (self.with_failed, "--with-failed", all),
            (self.only_used, "--only-used", all),
            (self.with_answers, "--with-answers", all),
            (self.by_remote, "--by-remote", all),
            (self.for_user.is_some(), "--for-user", &[Nft, Iptables]),
            (self.policy_name.is_some(), "--policy-name", &[K8s, Cilium]),
            (self.family.is_some(), "--family", &[Iptables]),
        ];
        flags.into_iter().filter(|(is_given, ..)| *is_given).map(|(_, flag, formats)| (flag, formats))
    }
}

/// Hides these flags where they are kept for old command lines only.
pub(super) fn hide(command: clap::Command) -> clap::Command {
    command.mut_args(|argument| match argument.get_help_heading() {
        Some(HEADING) => argument.hide(true),
        _ => argument,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_policy_is_a_label() {
        let longest = "a".repeat(63);
        for valid in ["shop", "a", "0-b", "my-app-2", &longest] {
            assert_eq!(parse_policy_name(valid).as_deref(), Ok(valid));
        }
        for invalid in ["", "A B", "Shop", "-a", "a-", "a.b", "a_b", "gr\u{fc}n", &"a".repeat(64)] {
            assert!(parse_policy_name(invalid).expect_err(invalid).contains("RFC 1123"), "{invalid}");
        }
    }
}
