//! Policies: every key, and errors with their place.

use netwatch::allow::{AllowedAddress, AllowedProtocol, NameEvidence, NamePattern, PolicyDate, PortRange, parse};
use netwatch::flow::{Direction, Protocol};

use proptest::prelude::*;

use crate::policy;

#[test]
fn every_key_is_read() {
    let list = policy(
        "lookups = \"any\"\nuncertain = \"allow\"\n\n\
        # The registry.\n[[allow]]\nname = [\"*.crates.example\", \"crates.example\"]\naddress = [\"203.0.113.0/24\", \"2001:db8::1\"]\n\
        port = [443, \"8000-8099\"]\nprotocol = \"tcp\"\nprocess = \"cargo\"\nevidence = \"dns\"\n\
        why = \"crates\"\nuntil = 2027-01-01\n\n[[allow]]\ndirection = \"in\"\nport = 8080\n\n\
        [[allow]]\naddress = \"host\"\nprotocol = 47\n",
    );
    assert!(list.any_lookup && list.allow_uncertain);
    let [first, second, third] = list.rules.as_slice() else { panic!("{:?}", list.rules) };
    assert_eq!((first.line, second.line, third.line), (5, 15, 19));
    let name = |text| NamePattern::parse(text).expect("a name");
    assert_eq!(first.names, [name("*.crates.example"), name("crates.example")]);
    let net = |text: &str| AllowedAddress::Net(text.parse().expect("a prefix"));
    assert_eq!(first.addresses, [net("203.0.113.0/24"), net("2001:db8::1/128")]);
    assert_eq!(first.ports, [PortRange::one(443), PortRange { first: 8000, last: 8099 }]);
    assert_eq!(first.protocol, Some(AllowedProtocol::Ip(Protocol::TCP)));
    assert_eq!((first.processes.as_slice(), first.evidence), (&["cargo".to_owned()][..], NameEvidence::Dns));
    assert_eq!((first.why.as_deref(), first.until), (Some("crates"), Some(PolicyDate::new(2027, 1, 1))));
    assert_eq!((second.direction, second.ports.as_slice()), (Direction::Ingress, &[PortRange::one(8080)][..]));
    assert_eq!((third.addresses[0], third.protocol), (AllowedAddress::Host, Some(AllowedProtocol::Ip(Protocol(47)))));
}

#[test]
fn an_empty_policy_allows_nothing() {
    assert_eq!(policy(""), netwatch::allow::AllowList::default());
    assert_eq!(policy("# Nothing.\n").rules, []);
}

#[test]
fn the_example_of_the_manual_is_a_policy() {
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy.md")).expect("the manual");
    let example = manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    assert_eq!(policy(example).rules.len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_at_one_of_its_lines(
        text in any::<String>(), words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..12)
    ) {
        for text in [text, words.concat()] {
            if let Err(error) = parse(&text) {
                prop_assert!((1..=text.lines().count() + 1).contains(&error.line) && error.column > 0, "{error:?}");
            }
        }
    }
}

const WORDS: [&str; 13] = [
    "[[allow]]\n",
    "name = ",
    "port = ",
    "until = ",
    "\"*.ü.example\"\n",
    "443\n",
    "[1, \"2-3\"]\n",
    "2027-01-01\n",
    "{ a = 1 }\n",
    "\n",
    "# ü\n",
    "direction = \"in\"\n",
    "why = '''\n'''\n",
];

/// Text of a policy, line and column of the error, and a part of its cause.
type Mistake = (&'static str, usize, usize, &'static str);

const MISTAKES: &[Mistake] = &[
    ("allow = [", 1, 10, ""),
    ("[[allow]]\nport = 443\nport = 80\n", 3, 1, "duplicate"),
    ("alow = 1\n", 1, 1, "unknown key alow, expected one of allow, lookups, uncertain"),
    ("[[alow]]\nport = 1\n", 1, 3, "unknown key alow"),
    ("[[allow]]\nport = 443\nnam = \"a\"\n", 3, 1, "unknown key nam, expected one of name, address"),
    ("[[allow]]\n\nport = 65536\n", 3, 8, "expected a port from 0 to 65535"),
    ("[[allow]]\nport = \"90-80\"\n", 2, 8, "expected a port"),
    ("[[allow]]\nport = [80, \"x\"]\n", 2, 13, "expected a port"),
    ("[[allow]]\nport = []\n", 2, 8, "the list is empty"),
    ("[[allow]]\nname = 5\n", 2, 8, "expected a string"),
    ("[[allow]]\nname = \"\"\n", 2, 8, "expected a string"),
    ("[[allow]]\nname = \"https://a.example\"\n", 2, 8, "expected a name without"),
    ("[[allow]]\nname = \"a.*.example\"\n", 2, 8, "only at the start"),
    ("[[allow]]\naddress = \"10.0.0.300\"\n", 2, 11, "expected an address"),
    ("[[allow]]\naddress = \"10.0.0.1/8\"\n", 2, 11, "bits beyond its length: 10.0.0.0/8"),
    ("[[allow]]\nprotocol = \"http\"\n", 2, 12, "expected \"tcp\", \"udp\""),
    ("[[allow]]\nprotocol = 256\n", 2, 12, "the number of a protocol"),
    ("[[allow]]\nport = 1\ndirection = \"egress\"\n", 3, 13, "expected \"out\" or \"in\""),
    ("[[allow]]\nport = 1\nuntil = \"2027-01-01\"\n", 3, 9, "a date without quotes"),
    ("[[allow]]\nport = 1\nuntil = 2027-01-01T00:00:00Z\n", 3, 9, "a date without quotes"),
    ("[[allow]]\nwhy = \"everything\"\n", 1, 1, "a rule needs a name"),
    ("[[allow]]\nname = \"a.example\"\ndirection = \"in\"\n", 2, 1, "a name needs direction"),
    ("[[allow]]\nport = 1\nevidence = \"dns\"\n", 3, 1, "evidence needs a name"),
    ("[[allow]]\nprotocol = \"dns\"\n", 2, 1, "needs a name"),
    ("[[allow]]\nprotocol = \"icmp\"\nport = 1\n", 3, 1, "no ports"),
    ("allow = [{ port = 1 }]\n", 1, 1, "write each rule as a table"),
    ("lookups = \"none\"\n", 1, 11, "expected \"names\" or \"any\""),
    ("uncertain = true\n", 1, 13, "expected \"fail\" or \"allow\""),
];

#[test]
fn mistakes_are_refused_with_line_and_column() {
    for (text, line, column, cause) in MISTAKES {
        let error = parse(text).expect_err(text);
        assert_eq!((error.line, error.column), (*line, *column), "{text}{error:?}");
        assert!(error.cause.contains(cause) && !error.cause.contains('\n'), "{text}{error:?}");
    }
}
