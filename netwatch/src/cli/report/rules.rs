//! The flags of the formats that are firewall rules.

use std::net::IpAddr;

use clap::Args;

use super::format::Format;
use crate::error::{Error, Result};
use crate::policy::{self, Family, Generalise, Options};

/// What only rules take. None of it from the environment: a variable would make every other format an error.
#[derive(Debug, Args)]
#[command(next_help_heading = "Firewall rules")]
pub(super) struct RulesArgs {
    /// Fold addresses into prefixes, names into wildcards and ephemeral ports into their range, by the rules of docs/firewall.md
    #[arg(long, alias = "generalize")]
    generalise: bool,

    /// The shortest IPv4 prefix of --generalise [default: 24]
    #[arg(long, value_name = "LENGTH", requires = "generalise", value_parser = clap::value_parser!(u8).range(8..=32))]
    prefix4: Option<u8>,

    /// The shortest IPv6 prefix of --generalise [default: 64]
    #[arg(long, value_name = "LENGTH", requires = "generalise", value_parser = clap::value_parser!(u8).range(16..=128))]
    prefix6: Option<u8>,

    /// Names with one parent from which on --generalise writes *.PARENT [default: 3]
    #[arg(long, value_name = "N", requires = "generalise", value_parser = clap::value_parser!(u16).range(2..))]
    siblings: Option<u16>,

    /// A resolver of your users, to which DNS is open (repeatable) [default: by format, see docs/firewall.md]
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    resolver: Vec<IpAddr>,

    /// Open also what was tried and never worked
    #[arg(long)]
    with_failed: bool,

    /// Open also the addresses that DNS gave for a name and that were not used
    #[arg(long)]
    with_answers: bool,

    /// Open ports for the remotes that came, instead of for everybody
    #[arg(long)]
    by_remote: bool,

    /// nft and iptables: filter only what this user, by name or number, sends
    #[arg(long, value_name = "USER", value_parser = user)]
    for_user: Option<String>,

    /// k8s and cilium: the policy's name, and the value of the label `app` that it selects [default: the program's]
    #[arg(long, value_name = "NAME")]
    policy_name: Option<String>,

    /// iptables: only this family, as iptables-restore or ip6tables-restore reads it
    #[arg(long, value_name = "4|6", value_parser = family)]
    family: Option<Family>,
}

/// As useradd(8) allows them, or a number: it goes into a rule.
fn user(text: &str) -> Result<String, String> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let is_good = is_word && !text.is_empty() && !text.starts_with('-') && text.len() <= 32;
    if is_good { Ok(text.to_owned()) } else { Err("neither a user's name nor a number".to_owned()) }
}

fn family(text: &str) -> Result<Family, String> {
    match text {
        "4" => Ok(Family::V4),
        "6" => Ok(Family::V6),
        _ => Err("4 or 6".to_owned()),
    }
}

impl RulesArgs {
    /// What the flags mean; an error for one that the format cannot heed.
    pub fn options(&self, format: Format) -> Result<Options> {
        let heeds = |formats: &[policy::Format]| matches!(format, Format::Rules(rules) if formats.contains(&rules));
        let wrong = self.given().find(|(_, formats)| !heeds(formats));
        if let Some((flag, formats)) = wrong {
            let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
            let why = format!("{} does not know it", format.name());
            return Err(Error::said("use", flag, why).hint(format!("it is for --format {}", names.join(", "))));
        }
        let default = Generalise::default();
        let generalise = Generalise {
            v4: self.prefix4.unwrap_or(default.v4),
            v6: self.prefix6.unwrap_or(default.v6),
            names: self.siblings.map_or(default.names, usize::from),
        };
        Ok(Options {
            generalise: self.generalise.then_some(generalise),
            resolvers: self.resolver.clone(),
            with_failed: self.with_failed,
            with_answers: self.with_answers,
            by_remote: self.by_remote,
            user: self.for_user.clone(),
            name: self.policy_name.clone(),
            family: self.family,
        })
    }

    /// Flags that were given, each with the formats that heed it.
    fn given(&self) -> impl Iterator<Item = (&'static str, &'static [policy::Format])> {
        use policy::Format::{Cilium, Iptables, K8s, Nft};
        let all = &policy::Format::ALL;
        let flags: [(bool, &str, &[policy::Format]); 8] = [
            (self.generalise, "--generalise", all),
            (!self.resolver.is_empty(), "--resolver", all),
            (self.with_failed, "--with-failed", all),
            (self.with_answers, "--with-answers", all),
            (self.by_remote, "--by-remote", all),
            (self.for_user.is_some(), "--for-user", &[Nft, Iptables]),
            (self.policy_name.is_some(), "--policy-name", &[K8s, Cilium]),
            (self.family.is_some(), "--family", &[Iptables]),
        ];
        flags.into_iter().filter(|(is_given, ..)| *is_given).map(|(_, flag, formats)| (flag, formats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_words() {
        for good in ["root", "_apt", "4242", "first.last", "a-b"] {
            assert_eq!(user(good).as_deref(), Ok(good));
        }
        for bad in ["", "-j", "a b", "a;b", "a\"b", "$(x)"] {
            assert!(user(bad).is_err(), "{bad}");
        }
    }
}
