//! A run of another machine: its JSON report gives the same list as its recording.

use netwatch::format::json;
use netwatch::import;
use netwatch::policy::RuleFormat;

use crate::sample::scene::everything;
use crate::{rules, variants};

fn document() -> Vec<u8> {
    let mut bytes = Vec::new();
    json::write(&everything(), &mut bytes).expect("a Vec accepts every write");
    bytes
}

#[test]
fn a_json_report_gives_the_same_rules() {
    let imported = import::report(&document()).expect("a report");
    for format in RuleFormat::ALL {
        for options in variants() {
            assert_eq!(rules(format, &[&imported], &options), rules(format, &[&everything()], &options), "{format:?}");
        }
    }
}

#[test]
fn other_documents_are_refused_with_the_reason() {
    assert!(import::is_json(b"  {") && !import::is_json(b"SQLi"));
    let refused = |bytes: &[u8]| import::report(bytes).expect_err("no report");
    assert!(refused(b"{}").contains("schema"), "{}", refused(b"{}"));
    assert!(refused(b"{\"schema\": 99}").contains("schema 99"));
    let cut = document();
    assert!(refused(&cut[..cut.len() / 2]).contains("not a JSON report"));
}
