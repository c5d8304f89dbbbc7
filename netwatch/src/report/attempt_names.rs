//! The names that programs looked up before failed attempts.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Report;
use crate::flow::{Direction, Remote};
use crate::process::{Attempt, AttemptTarget};

/// The name of each address that the target resolved or contacted.
#[derive(Debug)]
pub struct AttemptNames<'a>(HashMap<IpAddr, &'a str>);

impl<'a> AttemptNames<'a> {
    /// The names of this report. The name of an endpoint goes before those of DNS responses.
    pub fn of(report: &'a Report) -> Self {
        let mut names: HashMap<IpAddr, &str> = HashMap::new();
        for lookup in report.naming.lookups.iter().filter(|lookup| lookup.queried_by == Direction::Egress) {
            for address in &lookup.addresses {
                names.entry(*address).or_insert(lookup.question.name.as_str());
            }
        }
        for known in report.endpoints.iter().rev() {
            if let (Remote::Address(address), Some(display)) = (known.endpoint.key.remote, &known.display_name) {
                names.insert(address, display.name.as_str());
            }
        }
        Self(names)
    }

    /// The name that the program looked up; `None` if it used an address, or a local socket.
    pub fn name(&self, attempt: &'a Attempt) -> Option<&'a str> {
        match &attempt.target {
            AttemptTarget::Address(end) => self.0.get(&end.ip()).copied(),
            AttemptTarget::Name(name, _) => Some(name),
            AttemptTarget::LocalSocket(_) => None,
        }
    }
}
