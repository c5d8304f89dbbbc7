//! Flows and endpoints together with what is known of them beside their counters: names, protocols, processes.

use std::borrow::Cow;

use crate::flow::{Endpoint, Flow};
use crate::name::{Hidden, Named, Source};
use crate::process::{ProcessId, User};
use crate::wire::Name;

/// The name that something is shown by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The name.
    pub name: Name,
    /// How it is known.
    pub source: Source,
}

/// A protocol of applications, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Its name, as [`crate::wire::Application::name`] has it; a port's is IANA's.
    pub application: Cow<'static, str>,
    /// The bytes that prove it (`client_hello`, `request` and the like), or [`Spoken::PORT`].
    pub evidence: Cow<'static, str>,
}

impl Spoken {
    /// Nothing but the port says so.
    pub const PORT: &'static str = "port";

    /// Whether bytes prove it.
    pub fn is_proven(&self) -> bool {
        self.evidence != Self::PORT
    }
}

/// What is kept of TLS's hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The newest version that was offered, as `TLS 1.3`.
    pub offered_version: String,
    /// Protocols that were offered.
    pub alpn: Vec<String>,
    /// The fingerprint of the client's library; only of a whole hello.
    pub ja4: Option<String>,
    /// A post-quantum key was offered.
    pub post_quantum: bool,
}

/// What is known of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowNaming {
    /// The remote's name, by the best evidence.
    pub shown: Option<Shown>,
    /// Names that the flow itself said.
    pub names: Vec<Named>,
    /// What its bytes prove that it speaks.
    pub spoken: Option<Spoken>,
    /// What keeps names from being seen.
    pub hidden: Vec<Hidden>,
    /// TLS's part.
    pub tls: Option<Tls>,
}

/// A flow and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFlow {
    /// What was counted.
    pub flow: Flow,
    /// Names and protocol; `None` if nothing is known. Boxed because most of many flows have none.
    pub naming: Option<Box<FlowNaming>>,
    /// Who used it, the surest first.
    pub users: Vec<User>,
}

impl KnownFlow {
    /// The remote's name, by the best evidence.
    pub fn shown(&self) -> Option<&Shown> {
        self.naming.as_ref()?.shown.as_ref()
    }
}

/// An endpoint and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEndpoint {
    /// What was counted.
    pub endpoint: Endpoint,
    /// Its name, by the best evidence, of the flows that carried most.
    pub shown: Option<Shown>,
    /// All names of its address and its flows, in the order in which they were seen.
    pub names: Vec<Named>,
    /// What it speaks.
    pub spoken: Option<Spoken>,
    /// Who used it, in the order of [`crate::process::Processes::list`].
    pub processes: Vec<ProcessId>,
}

impl KnownEndpoint {
    /// Other names than the one that is shown.
    pub fn other_names(&self) -> impl Iterator<Item = &Name> {
        let shown = self.shown.as_ref().map(|shown| &shown.name);
        let mut seen: Vec<&Name> = shown.into_iter().collect();
        self.names.iter().map(Named::shown).filter(move |name| {
            let is_new = !seen.contains(name);
            seen.push(name);
            is_new
        })
    }
}
