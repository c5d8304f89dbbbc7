//! Firewall rules: each format taken by its own tool, and what is in them.

mod content;
mod fold;
mod large;
#[path = "../sample/mod.rs"]
mod sample;
mod taken;
mod tool;

use netwatch::policy::{self, Format, Options};
use netwatch::report::Report;

/// One format as text.
fn rules(format: Format, reports: &[&Report], options: &Options) -> String {
    let mut text = Vec::new();
    policy::write(format, reports, options, &mut text).expect("memory takes all");
    String::from_utf8(text).expect("rules are text")
}

/// Every combination that changes what rules look like.
fn variants() -> Vec<Options> {
    let resolvers = vec![[192, 0, 2, 53].into(), "2001:db8:53::53".parse().expect("an address")];
    let plain = Options::default();
    let all = Options {
        generalise: Some(policy::Generalise::default()),
        resolvers,
        with_failed: true,
        with_answers: true,
        by_remote: true,
        name: Some("My app!".into()),
        ..Options::default()
    };
    vec![plain, all]
}
