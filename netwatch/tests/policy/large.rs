//! Runs with very many remotes: rules are written quickly and completely.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use netwatch::flow::FlowTable;
use netwatch::policy::{Generalize, RuleFormat, RuleOptions};

use crate::rules;
use crate::sample::{facts, key, report, tcp};

/// As many addresses as a report lists individually by default.
const REMOTES: u32 = 65_000;

fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    (0..REMOTES).map(|number| Ipv4Addr::from(0x0b00_0000 + number * 3))
}

#[test]
fn rules_for_65_000_remotes_are_complete() {
    let mut table = FlowTable::default();
    for address in addresses() {
        table.apply(tcp(key(6, 40_000, address.into(), 443), 1_000_000, (4, 400), (3, 300)));
    }
    let report = report(facts(&table, &["crawler"]), &table);
    let generalized = RuleOptions { generalize: Some(Generalize::default()), ..RuleOptions::default() };
    for format in RuleFormat::ALL {
        let begun = Instant::now();
        let (text, folded) =
            (rules(format, &[&report], &RuleOptions::default()), rules(format, &[&report], &generalized));
        // A debug build on a busy machine takes about a second; an algorithm of quadratic cost
        // would take minutes.
        assert!(begun.elapsed() < Duration::from_secs(60), "{format:?} took {:?}", begun.elapsed());
        let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
        let listed: HashSet<Ipv4Addr> = words.filter_map(|word| word.parse().ok()).collect();
        assert!(addresses().all(|address| listed.contains(&address)), "{format:?} lacks some of {}", listed.len());
        assert!(folded.len() * 20 < text.len(), "{format:?}: {} of {}", folded.len(), text.len());
        println!("{format:?}: {:?}, {} kB, generalized {} kB", begun.elapsed(), text.len() / 1000, folded.len() / 1000);
    }
}
