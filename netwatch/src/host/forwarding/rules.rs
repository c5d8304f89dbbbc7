//! Policy routing rules that a run adds to the host's, because they outlive every process and no
//! flush of a firewall removes them:
//!
//! - The *guard* of an interface discards what arrives by it and is not for this host. It stands
//!   before every rule that could forward such a packet, so the host forwards for no other machine
//!   although the switch of the interface is on.
//! - The *pass* of a subnet lets packets to the target through the guards, and past rules that
//!   would route them elsewhere (into the tunnel of a VPN). It only accepts a route that is at
//!   least as specific as the subnet, so it ends with the link.
//!
//! They follow the rule for the table `local`: a packet for the host itself never reaches them.

use ipnet::IpNet;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::nat::ForwardGuard;
use crate::host::netlink::{Netlink, NetlinkRequest, attribute, u32_at};
use crate::undo::RunId;

const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
/// `struct fib_rule_hdr`: family, two prefix lengths, tos, table, two reserved bytes, action and
/// flags.
const RULE_HEADER: usize = 12;
const TABLE_LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;
const TABLE_MAIN: u32 = libc::RT_TABLE_MAIN as u32;

/// A rule of netwatch, as recorded in the register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Position among the rules of its family, lowest first.
    priority: u32,
    /// What it does.
    pub kind: PolicyRuleKind,
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyRuleKind {
    /// Lets packets to the subnet of a run pass.
    Pass {
        /// The run.
        run: RunId,
        /// The subnet.
        net: IpNet,
    },
    /// Discards what arrives by an interface.
    Guard {
        /// The address family.
        is_ipv6: bool,
        /// The name of the interface.
        interface: String,
    },
}

impl PolicyRuleKind {
    fn is_ipv6(&self) -> bool {
        match self {
            Self::Pass { net, .. } => net.addr().is_ipv6(),
            Self::Guard { is_ipv6, .. } => *is_ipv6,
        }
    }
}

/// The guards of these interfaces. `interfaces` are all interfaces of the host, for a kernel with
/// one switch for all of them.
pub fn guards(guards: &[ForwardGuard], interfaces: &[String]) -> Vec<PolicyRuleKind> {
    let guard = |is_ipv6, interface: &String| PolicyRuleKind::Guard { is_ipv6, interface: interface.clone() };
    let mut kinds = Vec::new();
    for one in guards {
        match one {
            ForwardGuard::Ipv4(interface) => kinds.push(guard(false, interface)),
            ForwardGuard::Ipv6(interface) => kinds.push(guard(true, interface)),
            ForwardGuard::Ipv6All => kinds.extend(interfaces.iter().map(|interface| guard(true, interface))),
        }
    }
    kinds
}

/// The priorities of new rules, in each family.
#[derive(Debug, Clone, Copy)]
pub struct RulePriorities {
    v4: Result<u32, PriorityRefusal>,
    v6: Result<u32, PriorityRefusal>,
}

/// Why a family has no room for a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PriorityRefusal {
    NoLocalRule,
    Taken(u32),
}

impl RulePriorities {
    /// Reads the host's rules.
    pub fn read(netlink: &mut Netlink) -> Result<Self> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        netlink.dump(libc::RTM_GETRULE, &[0; RULE_HEADER], |body| {
            let Some(rule) = ExistingRule::parse(body) else { return };
            match i32::from(body[0]) {
                libc::AF_INET => v4.push(rule),
                libc::AF_INET6 => v6.push(rule),
                _ => {}
            }
        })?;
        Ok(Self { v4: local_priority(&v4), v6: local_priority(&v6) })
    }

    /// The rule with its priority: a pass directly after the rule for the table `local`, a guard
    /// directly after the passes, so that those of later runs are also before it.
    pub fn place(&self, kind: PolicyRuleKind) -> Result<PolicyRule> {
        let is_ipv6 = kind.is_ipv6();
        let family = if is_ipv6 { "IPv6" } else { "IPv4" };
        let refuse = |cause: String| Error::other("guard", format!("{family} forwarding"), cause);
        match (if is_ipv6 { self.v6 } else { self.v4 }, &kind) {
            (Ok(local) | Err(PriorityRefusal::Taken(local)), PolicyRuleKind::Pass { .. }) => {
                Ok(PolicyRule { priority: local, kind })
            }
            (Ok(local), PolicyRuleKind::Guard { .. }) => Ok(PolicyRule { priority: local + 1, kind }),
            (Err(PriorityRefusal::NoLocalRule), _) => Err(refuse("no routing rule looks up the table local".into())),
            (Err(PriorityRefusal::Taken(local)), PolicyRuleKind::Guard { .. }) => {
                let cause = format!("a routing rule of another program has priority {}", local + 1);
                Err(refuse(cause).hint("give that rule a higher number; the guard has to be before it"))
            }
        }
    }
}

/// The relevant properties of an existing rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ExistingRule {
    priority: u32,
    looks_up_local: bool,
    /// Discards what arrives by an interface, as a guard does.
    is_guard: bool,
}

impl ExistingRule {
    fn parse(body: &[u8]) -> Option<Self> {
        let attributes = body.get(RULE_HEADER..)?;
        let number = |kind| attribute(attributes, kind).and_then(|value| u32_at(value, 0));
        let table = number(FRA_TABLE).or_else(|| body.get(4).copied().map(u32::from));
        let action = RuleAction::from(*body.get(7)?);
        Some(Self {
            priority: number(FRA_PRIORITY).unwrap_or(0),
            looks_up_local: action == RuleAction::ToTable && table == Some(TABLE_LOCAL),
            is_guard: action == RuleAction::Blackhole && attribute(attributes, FRA_IIFNAME).is_some(),
        })
    }
}

/// The priority of the first rule for the table `local`.
fn local_priority(rules: &[ExistingRule]) -> Result<u32, PriorityRefusal> {
    let local = rules.iter().find(|rule| rule.looks_up_local).ok_or(PriorityRefusal::NoLocalRule)?.priority;
    let is_taken = rules.iter().any(|rule| rule.priority == local + 1 && !rule.is_guard);
    if is_taken { Err(PriorityRefusal::Taken(local)) } else { Ok(local) }
}

/// Adds these rules, unless they exist.
pub fn add(netlink: &mut Netlink, rules: &[PolicyRule]) -> Result<()> {
    let requests: Vec<_> = rules.iter().map(PolicyRule::addition).collect();
    netlink.try_batch(&requests)?.into_iter().try_for_each(|added| accept_errno(added, Errno::EEXIST))
}

/// Removes these rules; succeeds if they do not exist.
pub fn remove(netlink: &mut Netlink, rules: &[PolicyRule]) -> Result<()> {
    let requests: Vec<_> = rules.iter().map(PolicyRule::removal).collect();
    netlink.try_batch(&requests)?.into_iter().try_for_each(|removed| accept_errno(removed, Errno::ENOENT))
}

fn accept_errno<T>(result: Result<T>, accepted: Errno) -> Result<()> {
    match result {
        Err(error) if error.errno() != Some(accepted) => Err(error),
        _ => Ok(()),
    }
}

impl PolicyRule {
    fn addition(&self) -> NetlinkRequest {
        NetlinkRequest::new("add routing rule for", self.shown(), RouteNetlinkMessage::NewRule(self.message())).create()
    }

    fn removal(&self) -> NetlinkRequest {
        NetlinkRequest::new("remove routing rule for", self.shown(), RouteNetlinkMessage::DelRule(self.message()))
    }

    fn shown(&self) -> String {
        match &self.kind {
            PolicyRuleKind::Pass { net, .. } => net.to_string(),
            PolicyRuleKind::Guard { interface, .. } => interface.clone(),
        }
    }

    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = if self.kind.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        message.attributes.push(RuleAttribute::Priority(self.priority));
        match &self.kind {
            PolicyRuleKind::Pass { net, .. } => {
                message.header.action = RuleAction::ToTable;
                message.header.dst_len = net.prefix_len();
                let less_specific = u32::from(net.prefix_len()).saturating_sub(1);
                message.attributes.extend([
                    RuleAttribute::Destination(net.addr()),
                    RuleAttribute::Table(TABLE_MAIN),
                    RuleAttribute::SuppressPrefixLen(less_specific),
                ]);
            }
            PolicyRuleKind::Guard { interface, .. } => {
                // Discards silently, like a host that does not forward.
                message.header.action = RuleAction::Blackhole;
                message.attributes.push(RuleAttribute::Iifname(interface.clone()));
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::{in_fresh_namespace, ip};

    fn pass(net: &str) -> PolicyRuleKind {
        PolicyRuleKind::Pass { run: RunId::parse("0123abcd").unwrap(), net: net.parse().unwrap() }
    }

    fn guard(is_ipv6: bool) -> PolicyRuleKind {
        PolicyRuleKind::Guard { is_ipv6, interface: "eth7".into() }
    }

    fn place(kind: PolicyRuleKind) -> Result<PolicyRule> {
        RulePriorities::read(&mut Netlink::route().unwrap()).unwrap().place(kind)
    }

    /// The priorities of all rules of a family, in order.
    fn rules(family: &str) -> String {
        ip(&format!("{family} rule show"))
    }

    #[test]
    fn rules_are_added_and_removed_any_number_of_times() {
        in_fresh_namespace(|| {
            let before = (rules("-4"), rules("-6"));
            let kinds = [guard(false), guard(true), pass("10.9.8.0/30"), pass("64:ff9b:1::/64")];
            let ours: Vec<_> = kinds.map(|kind| place(kind).unwrap()).into();
            let mut netlink = Netlink::route().unwrap();
            for _ in 0..2 {
                add(&mut netlink, &ours).unwrap();
                let v4 = "0:\tfrom all lookup local\n0:\tfrom all to 10.9.8.0/30 lookup main suppress_prefixlength 29\n\
                          1:\tfrom all iif eth7 [detached] blackhole\n32766:";
                assert!(rules("-4").starts_with(v4), "{}", rules("-4"));
                let v6 = "0:\tfrom all lookup local\n0:\tfrom all to 64:ff9b:1::/64 lookup main suppress_prefixlength 63\n\
                          1:\tfrom all iif eth7 [detached] blackhole\n32766:";
                assert!(rules("-6").starts_with(v6), "{}", rules("-6"));
            }
            for _ in 0..2 {
                remove(&mut netlink, &ours).unwrap();
                assert_eq!((rules("-4"), rules("-6")), before);
            }
        });
    }

    #[test]
    fn follows_the_rule_for_the_table_local() {
        in_fresh_namespace(|| {
            ip("rule add priority 100 lookup local");
            ip("rule del priority 0 lookup local");
            assert_eq!(place(pass("10.9.8.0/30")).unwrap().priority, 100);
            assert_eq!(place(guard(false)).unwrap().priority, 101);
            ip("rule add priority 101 lookup 52");
            assert_eq!(place(pass("10.9.8.0/30")).unwrap().priority, 100);
            let error = place(guard(false)).unwrap_err().to_string();
            assert!(error.contains("another program has priority 101"), "{error}");
            assert_eq!(place(guard(true)).unwrap().priority, 1, "the families are independent");
            ip("rule del priority 100 lookup local");
            assert!(place(guard(false)).unwrap_err().to_string().contains("table local"));
        });
    }

    #[test]
    fn guards_every_interface_where_one_switch_is_for_all() {
        let all = ["eth0".to_owned(), "eth1".to_owned()];
        let found = guards(&[ForwardGuard::Ipv4("eth0".into()), ForwardGuard::Ipv6All], &all);
        let is_v6: Vec<_> = found.iter().map(PolicyRuleKind::is_ipv6).collect();
        assert_eq!(is_v6, [false, true, true]);
    }
}
