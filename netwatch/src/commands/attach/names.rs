//! Names in bounded memory: a target can create any number of interfaces.

use std::collections::HashSet;
use std::fmt;

/// Names that are listed; the others are counted.
const MAX_LISTED: usize = 64;
/// Names that are counted once each.
const MAX_COUNTED: usize = 1024;

/// The first names, and the number of the others.
#[derive(Debug, Default)]
pub(super) struct NameList {
    listed: Vec<String>,
    known: HashSet<String>,
    /// There were more names than could be counted.
    is_beyond: bool,
}

impl NameList {
    /// Returns whether the name is new, and listed.
    pub(super) fn insert(&mut self, name: String) -> bool {
        if self.known.contains(&name) {
            return false;
        }
        if self.known.len() >= MAX_COUNTED {
            self.is_beyond = true;
            return false;
        }
        let is_listed = self.listed.len() < MAX_LISTED;
        if is_listed {
            self.listed.push(name.clone());
        }
        self.known.insert(name);
        is_listed
    }

    pub(super) fn sort(&mut self) {
        self.listed.sort();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The names that are listed.
    pub(super) fn listed(&self) -> &[String] {
        &self.listed
    }

    /// How many others there were, such as `12` or `at least 961`.
    pub(super) fn others(&self) -> Option<String> {
        let others = self.known.len() - self.listed.len();
        match (others, self.is_beyond) {
            (0, _) => None,
            (others, false) => Some(others.to_string()),
            (others, true) => Some(format!("at least {}", others + 1)),
        }
    }
}

impl Extend<String> for NameList {
    fn extend<T: IntoIterator<Item = String>>(&mut self, names: T) {
        names.into_iter().for_each(|name| _ = self.insert(name));
    }
}

impl FromIterator<String> for NameList {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        let mut list = Self::default();
        list.extend(names);
        list
    }
}

impl fmt::Display for NameList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.listed.join(", "))?;
        self.others().map_or(Ok(()), |others| write!(f, ", and {others} more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_names_are_counted_once_within_bounds() {
        let names = |count: usize| (0..count).map(|number| format!("veth{number}"));
        let mut list: NameList = names(2).chain(names(2)).collect();
        assert_eq!(list.to_string(), "veth0, veth1");
        list.extend(names(MAX_LISTED + 3));
        assert!(list.to_string().ends_with("veth63, and 3 more"), "{list}");
        list.extend(names(100_000));
        assert_eq!(list.others().as_deref(), Some("at least 961"));
        assert_eq!((list.listed.len(), list.known.len()), (MAX_LISTED, MAX_COUNTED));
    }
}
