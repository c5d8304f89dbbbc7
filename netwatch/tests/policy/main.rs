//! Firewall rules: each format is accepted by its own tool, and has the right content.

mod accepted;
mod addresses;
mod content;
mod fold;
mod import;
mod large;
#[path = "../sample/mod.rs"]
mod sample;
mod tool;

use netwatch::policy::{self, RuleFormat, RuleOptions};
use netwatch::report::Report;

/// The rules in one format.
fn rules(format: RuleFormat, reports: &[&Report], options: &RuleOptions) -> String {
    let mut text = Vec::new();
    policy::write(format, reports, options, &mut text).expect("a Vec accepts every write");
    String::from_utf8(text).expect("rules are text")
}

/// Options that cover every difference in the rules.
fn variants() -> Vec<RuleOptions> {
    let resolvers = vec![[192, 0, 2, 53].into(), "2001:db8:53::53".parse().expect("an address")];
    let plain = RuleOptions::default();
    let all = RuleOptions {
        generalize: Some(policy::Generalize::default()),
        resolvers,
        with_failed: true,
        only_used: true,
        by_remote: true,
        name: Some("My app!".into()),
        ..RuleOptions::default()
    };
    vec![plain, all]
}
