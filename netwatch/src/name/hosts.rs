//! The hosts file (hosts(5)), from its text.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::wire::Name;

/// Names by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts {
    names: HashMap<IpAddr, Vec<Name>>,
}

impl Hosts {
    /// Parses the text. Invalid lines are skipped, as resolvers do.
    pub fn parse(text: &str) -> Self {
        let mut hosts = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
            let names = words.filter_map(|word| Name::new(word.as_bytes()));
            hosts.names.entry(address).or_default().extend(names);
        }
        hosts
    }

    /// The first name of an address, which is the canonical one.
    pub fn name(&self, address: IpAddr) -> Option<&Name> {
        self.names.get(&address)?.first()
    }

    /// All names of an address, in the file's order.
    pub fn names(&self, address: IpAddr) -> &[Name] {
        self.names.get(&address).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_file() {
        let hosts = Hosts::parse(
            "# hosts\n127.0.0.1\tlocalhost\n203.0.113.7 App.Example app # comment\nnonsense\n::1 localhost\n203.0.113.7 other\n",
        );
        let address: IpAddr = [203, 0, 113, 7].into();
        assert_eq!(hosts.name(address).unwrap(), "app.example");
        assert_eq!(hosts.names(address).len(), 3);
        assert_eq!(hosts.name([203, 0, 113, 8].into()), None);
    }
}
