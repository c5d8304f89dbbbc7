//! The rules that let the target's packets pass another program's chain. Pure.

use super::OpenSpec;
use crate::host::nft::{ChainInfo, NftFamily, NftHook, Rule};

const TRANSPORTS: [(u8, &str); 2] = [(libc::IPPROTO_UDP as u8, "udp"), (libc::IPPROTO_TCP as u8, "tcp")];
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;

/// The tool that must still be able to read the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleStyle {
    /// `nft`.
    Native,
    /// `iptables` on nf_tables: a single expression that it cannot parse makes it refuse to list
    /// the whole table. Every version parses xtables matches; only new ones parse native conntrack
    /// and port expressions.
    Iptables,
}

impl RuleStyle {
    /// Recognized by the names that iptables uses.
    pub fn of(chain: &ChainInfo) -> Self {
        let tables = ["filter", "mangle", "raw", "security", "nat"];
        let iptables = chain.family != NftFamily::Inet
            && tables.contains(&chain.table.as_str())
            && ["INPUT", "FORWARD"].contains(&chain.name.as_str());
        if iptables { Self::Iptables } else { Self::Native }
    }
}

/// The rules for the top of a chain at this hook.
pub fn rules(spec: &OpenSpec<'_>, hook: NftHook, family: NftFamily, style: RuleStyle) -> Vec<Rule> {
    let rules = match hook {
        NftHook::Forward => forward(spec, style),
        NftHook::Input => input(spec, family, style),
        _ => Vec::new(),
    };
    rules.into_iter().map(|rule| rule.counter().accept()).collect()
}

fn forward(spec: &OpenSpec<'_>, style: RuleStyle) -> Vec<Rule> {
    let mut rules = tracked(style.to(spec.interface), style, spec.publish);
    rules.push(style.from(spec.interface));
    rules
}

/// DNS to the gateway; neighbor discovery, which IPv6 needs; answers to connections of the host to
/// published ports.
fn input(spec: &OpenSpec<'_>, family: NftFamily, style: RuleStyle) -> Vec<Rule> {
    let from = || style.from(spec.interface);
    let mut rules: Vec<Rule> =
        TRANSPORTS.iter().map(|transport| style.port(from(), *transport, spec.dns_port)).collect();
    if family != NftFamily::Ip {
        rules.push(style.protocol(from(), ICMPV6));
    }
    if spec.publish {
        rules.extend(tracked(from(), style, false));
    }
    rules
}

/// Packets of tracked connections; with `translated`, also of connections whose destination was
/// translated.
fn tracked(rule: Rule, style: RuleStyle, translated: bool) -> Vec<Rule> {
    match style {
        RuleStyle::Iptables => vec![rule.xtables_match("conntrack", 3, conntrack_info(translated))],
        RuleStyle::Native if translated => vec![rule.clone().established(), rule.destination_translated()],
        RuleStyle::Native => vec![rule.established()],
    }
}

impl RuleStyle {
    fn from(self, interface: &str) -> Rule {
        match self {
            Self::Native => Rule::new().iifname(interface),
            Self::Iptables => Rule::new().iptables_in(interface),
        }
    }

    fn to(self, interface: &str) -> Rule {
        match self {
            Self::Native => Rule::new().oifname(interface),
            Self::Iptables => Rule::new().iptables_out(interface),
        }
    }

    fn protocol(self, rule: Rule, number: u8) -> Rule {
        match self {
            Self::Native => rule.protocol(number),
            Self::Iptables => rule.iptables_protocol(number),
        }
    }

    fn port(self, rule: Rule, (number, name): (u8, &'static str), port: u16) -> Rule {
        let rule = self.protocol(rule, number);
        match self {
            Self::Native => rule.destination_port(port),
            Self::Iptables => rule.xtables_match(name, 0, port_info(name, port)),
        }
    }
}

/// `struct xt_conntrack_mtinfo3` that matches on the state only: `--ctstate
/// RELATED,ESTABLISHED[,DNAT]`.
pub(super) fn conntrack_info(translated: bool) -> Vec<u8> {
    const SIZE: usize = 164;
    const MATCH_FLAGS: usize = 146;
    const STATE_MASK: usize = 150;
    const XT_CONNTRACK_STATE: u16 = 1;
    const ESTABLISHED: u16 = 1 << 1;
    const RELATED: u16 = 1 << 2;
    /// `1 << (IP_CT_NUMBER + 2)`: not a state of the connection tracker, but this match treats it
    /// as one.
    const DNAT: u16 = 1 << 7;
    let states = ESTABLISHED | RELATED | if translated { DNAT } else { 0 };
    let mut info = vec![0; SIZE];
    info[MATCH_FLAGS..MATCH_FLAGS + 2].copy_from_slice(&XT_CONNTRACK_STATE.to_ne_bytes());
    info[STATE_MASK..STATE_MASK + 2].copy_from_slice(&states.to_ne_bytes());
    info
}

/// `struct xt_udp` or `struct xt_tcp`: source ports from, to; destination ports from, to; and no
/// flags.
pub(super) fn port_info(name: &str, port: u16) -> Vec<u8> {
    let ports = [0, u16::MAX, port, port];
    let mut info: Vec<u8> = ports.iter().flat_map(|port| port.to_ne_bytes()).collect();
    info.resize(if name == "tcp" { 12 } else { 10 }, 0);
    info
}
