//! Firewall rules: each format taken by its own tool, and what is in them.

mod content;
mod fold;
mod large;
#[path = "../sample/mod.rs"]
mod sample;
mod taken;
mod tool;

use netwatch::policy::{self, RuleFormat, RuleOptions};
use netwatch::report::Report;

/// One format as text.
fn rules(format: RuleFormat, reports: &[&Report], options: &RuleOptions) -> String {
    let mut text = Vec::new();
    policy::write(format, reports, options, &mut text).expect("memory takes all");
    String::from_utf8(text).expect("rules are text")
}

/// Every combination that changes what rules look like.
fn variants() -> Vec<RuleOptions> {
    let resolvers = vec![[192, 0, 2, 53].into(), "2001:db8:53::53".parse().expect("an address")];
    let plain = RuleOptions::default();
    let all = RuleOptions {
        generalize: Some(policy::Generalize::default()),
        resolvers,
        with_failed: true,
        with_answers: true,
        by_remote: true,
        name: Some("My app!".into()),
        ..RuleOptions::default()
    };
    vec![plain, all]
}
