//! Firewall rules for a program's users: what must be opened, from the reports of its runs, in the words of each firewall. Not a firewall:
//! nothing is loaded here, and nothing is opened that was not used.
//!
//! [`Requirements`] is the list, [`generalize`] makes it shorter by stated rules, and there is one file for each format. docs/firewall.md is the
//! manual.

mod aws;
mod cilium;
mod firewalld;
mod generalize;
mod header;
mod iptables;
mod k8s;
mod need;
mod nft;
mod peers;
mod ports;
mod require;
mod systemd;
mod text;
mod ufw;
mod yaml;

use std::io::{self, Write};
use std::net::IpAddr;

pub use generalize::{Generalize, generalize};
pub use need::{Need, Pattern, Service};
pub use require::{Requirements, SourceRun};

use crate::report::Report;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleFormat {
    /// A file for `nft -f`.
    Nft,
    /// A script around `iptables-restore` and `ip6tables-restore`; with [`RuleOptions::family`] what one of them reads.
    Iptables,
    /// A script of `ufw` commands.
    Ufw,
    /// A script of `firewall-cmd` commands.
    Firewalld,
    /// A NetworkPolicy of Kubernetes.
    K8s,
    /// A CiliumNetworkPolicy.
    Cilium,
    /// Permissions of an AWS security group, JSON.
    AwsSg,
    /// A drop-in for a systemd service.
    Systemd,
    /// A plain table for a manual.
    Ports,
}

impl RuleFormat {
    /// Every format, in the order of the manual.
    pub const ALL: [Self; 9] = [
        Self::Nft,
        Self::Iptables,
        Self::Ufw,
        Self::Firewalld,
        Self::K8s,
        Self::Cilium,
        Self::AwsSg,
        Self::Systemd,
        Self::Ports,
    ];

    /// As it is typed.
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
            Self::Ports => "ports",
        }
    }
}

/// One of the two families of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// How to write it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleOptions {
    /// Fold addresses, names and ports.
    pub generalize: Option<Generalize>,
    /// The users' resolvers; DNS to anybody when there are none.
    pub resolvers: Vec<IpAddr>,
    /// Open also what was tried and never worked.
    pub with_failed: bool,
    /// Open also the addresses that DNS gave for a name and that were not used.
    pub with_answers: bool,
    /// Open ports only for the remotes that came.
    pub by_remote: bool,
    /// Only for what this user (a name or a number) sends: nft and iptables.
    pub user: Option<String>,
    /// The name of what is made, where the format has one; otherwise the program's.
    pub name: Option<String>,
    /// Only this family, without the script around it: iptables.
    pub family: Option<AddressFamily>,
}

/// Writes what these runs need in one format, in one go.
pub fn write(format: RuleFormat, reports: &[&Report], options: &RuleOptions, out: &mut dyn Write) -> io::Result<()> {
    let requirements = Requirements::of(reports, options);
    let text = match format {
        RuleFormat::Nft => nft::text(&requirements, options),
        RuleFormat::Iptables => iptables::text(&requirements, options),
        RuleFormat::Ufw => ufw::text(&requirements, options),
        RuleFormat::Firewalld => firewalld::text(&requirements, options),
        RuleFormat::K8s => k8s::text(&requirements, options),
        RuleFormat::Cilium => cilium::text(&requirements, options),
        RuleFormat::AwsSg => aws::text(&requirements, options),
        RuleFormat::Systemd => systemd::text(&requirements, options),
        RuleFormat::Ports => ports::text(&requirements, options),
    };
    out.write_all(text.as_bytes())?;
    out.flush()
}
