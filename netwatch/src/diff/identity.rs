//! The names of addresses and the paths of programs, collected from all compared runs: a name that
//! only one run found is not a difference.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::flow::{Direction, EndpointKey, Protocol};
use crate::name::Lookup;
use crate::process::Process;
use crate::report::{AddressRole, DnsForwarder, Report, ReportFlow};
use crate::wire::port;

/// Bytes of a program's name that the kernel stores (TASK_COMM_LEN without its zero).
const MAX_COMM_BYTES: usize = 15;

/// Names and paths that any of the runs contains.
pub(super) struct Identities {
    names: BTreeMap<IpAddr, String>,
    /// Names from DNS responses, whether or not the address was used.
    answers: BTreeMap<IpAddr, String>,
    programs: BTreeMap<String, String>,
}

impl Identities {
    pub fn of<'a>(reports: impl Iterator<Item = &'a Report> + Clone) -> Self {
        let flows = reports.clone().flat_map(|report| &report.flows);
        let named = |known: &ReportFlow| {
            let is_out = known.flow.opened_by == Direction::Egress;
            let shown = known.display_name().filter(|_| is_out)?;
            Some((known.flow.key.remote.addr, shown.name.to_string()))
        };
        let lookups = reports.clone().flat_map(|report| &report.naming.lookups);
        let asked = lookups.filter(|lookup| lookup.queried_by == Direction::Egress);
        let answered = |lookup: &Lookup| {
            let name = lookup.question.name.to_string();
            lookup.addresses.iter().map(|address| (*address, name.clone())).collect::<Vec<_>>()
        };
        let processes = reports.flat_map(|report| &report.processes.list);
        let program = |process: &Process| {
            let path = process.exe.clone()?;
            Some((comm_of(&path), path))
        };
        // Of several names the first in alphabetical order, so that the result does not depend on
        // the order of runs.
        let mut names: Vec<_> = flows.filter_map(named).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut answers: Vec<_> = asked.flat_map(answered).collect();
        answers.sort_unstable_by(|a, b| b.cmp(a));
        let mut programs: Vec<_> = processes.filter_map(program).collect();
        programs.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            names: names.into_iter().collect(),
            answers: answers.into_iter().collect(),
            programs: programs.into_iter().collect(),
        }
    }

    /// The remote of a flow or endpoint: a placeholder, a name, or the address.
    pub fn remote(&self, report: &Report, key: &EndpointKey, address: IpAddr, name: Option<String>) -> String {
        let role = report.interface.role_of(address);
        let is_dns = key.port == port::DNS && key.protocol.has_ports() && key.direction == Direction::Egress;
        let is_resolver =
            is_dns && (role == AddressRole::Gateway || report.replay.is_some() && role == AddressRole::Other);
        match role {
            _ if is_resolver => DnsForwarder::NAME.to_owned(),
            AddressRole::Gateway => "(this machine)".to_owned(),
            _ if key.direction == Direction::Ingress => "(any remote)".to_owned(),
            _ => name.or_else(|| self.names.get(&address).cloned()).unwrap_or_else(|| address.to_string()),
        }
    }

    /// The remote of a failed attempt, by the name that its report has for it; else by any name of
    /// it. An attempt that failed before a packet was sent has no flow, so its name comes from DNS
    /// responses.
    pub fn attempted(&self, report: &Report, name: Option<&str>, end: SocketAddr, protocol: Protocol) -> String {
        let (address, port) = (end.ip(), end.port());
        let remote = crate::flow::Remote::Address(address);
        let key = EndpointKey { remote, protocol, port, direction: Direction::Egress, fragment: false };
        let other = || self.names.get(&address).or_else(|| self.answers.get(&address)).cloned();
        self.remote(report, &key, address, name.map(str::to_owned).or_else(other))
    }

    /// The path of the program of a process, even if only another run could read it; otherwise its
    /// name.
    pub fn program(&self, process: &Process) -> String {
        let by_name = || self.programs.get(&process.comm).cloned();
        process.exe.clone().or_else(by_name).unwrap_or_else(|| process.comm.clone())
    }
}

fn comm_of(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let end = (0..=MAX_COMM_BYTES.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name[..end].to_owned()
}
