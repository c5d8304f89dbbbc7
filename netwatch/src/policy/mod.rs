//! Derives the firewall requirements of a program from reports of its runs, and writes them as
//! rules for several firewalls. Loads no rules, and opens nothing that the runs do not contain.
//!
//! [`Requirements`] is the list, [`generalize()`] shortens it by documented rules, and each format
//! has its own file. docs/ports.md is the manual.

mod at_once;
mod aws;
mod cilium;
mod csv;
mod families;
mod firewalld;
mod generalize;
mod header;
mod iptables;
mod json;
mod k8s;
mod markdown;
mod need;
mod nft;
mod page;
mod peers;
mod purpose;
mod require;
mod rows;
mod systemd;
mod table;
mod text;
mod ufw;
mod unresolved;
mod yaml;

use std::io::{self, Write};
use std::net::IpAddr;

pub use generalize::{Generalize, generalize};
pub use need::{Need, Pattern, PeerFailures, PeerUse, Service};
pub use page::page_ports;
pub use purpose::Purpose;
pub use require::{Requirements, SourceRun};
pub use text::is_label;
pub use unresolved::UnresolvedName;

use crate::report::Report;

/// The format of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleFormat {
    /// A file for `nft -f`.
    Nft,
    /// A script around `iptables-restore` and `ip6tables-restore`; with [`RuleOptions::family`],
    /// the input of one of them.
    Iptables,
    /// A script of `ufw` commands.
    Ufw,
    /// A script of `firewall-cmd` commands.
    Firewalld,
    /// A Kubernetes NetworkPolicy.
    K8s,
    /// A CiliumNetworkPolicy.
    Cilium,
    /// Permissions of an AWS security group, as JSON.
    AwsSg,
    /// A drop-in for a systemd service.
    Systemd,
    /// A plain table for a manual.
    Table,
    /// A table in Markdown.
    Markdown,
    /// One row per address, for spreadsheets.
    Csv,
    /// One JSON document.
    Json,
}

impl RuleFormat {
    /// Every format, in the order of the manual.
    pub const ALL: [Self; 12] = [
        Self::Table,
        Self::Markdown,
        Self::Csv,
        Self::Json,
        Self::Nft,
        Self::Iptables,
        Self::Ufw,
        Self::Firewalld,
        Self::K8s,
        Self::Cilium,
        Self::AwsSg,
        Self::Systemd,
    ];
    /// The formats for readers instead of firewalls.
    pub const TABLES: [Self; 4] = [Self::Table, Self::Markdown, Self::Csv, Self::Json];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
            Self::Ufw => "ufw",
            Self::Firewalld => "firewalld",
            Self::K8s => "k8s",
            Self::Cilium => "cilium",
            Self::AwsSg => "aws-sg",
            Self::Systemd => "systemd",
            Self::Table => "table",
            Self::Markdown => "markdown",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Options of the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleOptions {
    /// Combine addresses, names and ports.
    pub generalize: Option<Generalize>,
    /// The users' DNS resolvers. If there are none, DNS to every address is opened.
    pub resolvers: Vec<IpAddr>,
    /// Also open what was attempted and never succeeded.
    pub with_failed: bool,
    /// Leave out addresses from DNS responses that were not used.
    pub only_used: bool,
    /// Open the program's own ports only to the remotes that connected.
    pub by_remote: bool,
    /// Filter only what this user (a name or a number) sends: nft and iptables.
    pub user: Option<String>,
    /// The name of the policy, if the format has one; by default the program's name.
    pub name: Option<String>,
    /// Only this address family, without the script around the rules: iptables.
    pub family: Option<AddressFamily>,
    /// Width of the plain table in columns; unlimited if `None`.
    pub width: Option<usize>,
}

/// Writes the requirements of these runs in one format.
pub fn write(format: RuleFormat, reports: &[&Report], options: &RuleOptions, out: &mut dyn Write) -> io::Result<()> {
    out.write_all(text(format, &Requirements::of(reports, options), options).as_bytes())?;
    out.flush()
}

/// The requirements in one format.
fn text(format: RuleFormat, requirements: &Requirements, options: &RuleOptions) -> String {
    match format {
        RuleFormat::Nft => nft::text(requirements, options),
        RuleFormat::Iptables => iptables::text(requirements, options),
        RuleFormat::Ufw => ufw::text(requirements, options),
        RuleFormat::Firewalld => firewalld::text(requirements, options),
        RuleFormat::K8s => k8s::text(requirements, options),
        RuleFormat::Cilium => cilium::text(requirements, options),
        RuleFormat::AwsSg => aws::text(requirements, options),
        RuleFormat::Systemd => systemd::text(requirements, options),
        RuleFormat::Table => table::text(requirements, options),
        RuleFormat::Markdown => markdown::text(requirements, options),
        RuleFormat::Csv => csv::text(requirements, options),
        RuleFormat::Json => json::text(requirements, options),
    }
}
