//! Allow-lists: what a program may reach. Checks reports against them and generates them from
//! reports; blocks nothing. [`crate::policy`] writes firewall rules.
//!
//! [`parse()`] reads a policy, [`accesses`] lists what a report contains, [`AllowList::decide`] is
//! the matcher, [`CompiledList`] a fast one, and [`check`] returns the verdict. docs/check.md is
//! the manual.

mod access;
mod asked;
mod compiled;
mod date;
mod decide;
mod gather;
mod learn;
mod parse;
mod parse_rule;
mod pattern;
mod rule;
mod uncertain;
mod verdict;
mod write;

pub use access::{AccessPeer, AccessTarget, EvidentName, NetworkAccess, ProvenProgram};
pub use compiled::CompiledList;
pub use date::PolicyDate;
pub use decide::{Decision, Mismatch, NearestRule};
pub use gather::accesses;
pub use learn::{LearnedRemote, LearnedRule, RemoteFacts, learn};
pub use parse::{PolicyError, parse};
pub use pattern::NamePattern;
pub use rule::{AllowList, AllowRule, AllowedAddress, AllowedProtocol, NameEvidence, PortRange};
pub use verdict::{CheckedRun, PolicyVerdict, Violation, check};
pub use write::{addition, policy};
