//! AWS: the permissions of a security group, as arguments of `aws ec2
//! authorize-security-group-egress --ip-permissions`.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::header::{self, FAILED_ATTEMPTS, NAMES_LIMIT, failed_with_addresses, peers, purpose};
use super::need::{Need, Service};
use super::{Requirements, RuleOptions};
use crate::flow::Direction;
use crate::wire::port;

/// Maximum number of rules of a security group per direction and address family, unless the account
/// has a higher quota.
const MAX_RULES: usize = 60;

const USAGE: [&str; 3] = [
    "Apply with `aws ec2 authorize-security-group-egress --group-id GROUP --ip-permissions \"$(jq .egress FILE)\"`, and the same with ingress. \
    An empty list needs no command.",
    "A new group allows all outgoing traffic: remove that rule with revoke-security-group-egress. Responses to allowed traffic need no rule.",
    "Security groups never filter DNS to the VPC's own resolver, so there is no rule for it. Name other resolvers with --resolver.",
];
const LIMITS: &str = "multicast and broadcast; ports of protocols other than TCP and UDP, which are opened as a whole";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let mut about = header::lines(requirements, options, &USAGE, &[NAMES_LIMIT, LIMITS]);
    let mut egress = Permissions::default();
    if requirements.dns {
        for protocol in ["udp", "tcp"] {
            let nets = options.resolvers.iter().map(|resolver| IpNet::from(*resolver));
            nets.for_each(|net| egress.add(protocol, Some((port::DNS, port::DNS)), net, "DNS to your resolvers"));
        }
    }
    requirements.of_direction(Direction::Egress).for_each(|need| egress.add_need(need, options));
    let mut ingress = Permissions::default();
    if !egress.0.is_empty() {
        // Path MTU discovery (RFC 1191, RFC 8201): security groups do not recognize these as
        // responses.
        ingress.add("icmp", Some((3, 4)), any(true), "fragmentation needed");
        ingress.add("icmpv6", Some((2, 0)), any(false), "packet too big");
    }
    requirements.of_direction(Direction::Ingress).for_each(|need| ingress.add_need(need, options));
    for (way, permissions) in [("egress", &egress), ("ingress", &ingress)] {
        about.extend(permissions.over_quota(way));
    }
    about.extend(requirements.groups.iter().map(|need| format!("Not expressible in this format: {}.", peers(need))));
    if requirements.not_opened().next().is_some() {
        about.push(FAILED_ATTEMPTS.into());
        about.extend(requirements.not_opened().map(failed_with_addresses));
    }
    let document = json!({ "about": about, "egress": egress.document(), "ingress": ingress.document() });
    format!("{document:#}\n")
}

/// Address ranges of both families with their descriptions, by protocol and ports.
#[derive(Default)]
struct Permissions(BTreeMap<PermissionKey, DescribedRanges>);

/// A protocol, and its first and last port (for ICMP: type and code).
type PermissionKey = (String, Option<(u16, u16)>);
/// Addresses with their descriptions. AWS rejects a range that occurs twice.
type DescribedRanges = BTreeMap<IpNet, String>;

impl Permissions {
    fn add(&mut self, protocol: &str, ports: Option<(u16, u16)>, net: IpNet, description: &str) {
        let known = self.0.entry((protocol.to_owned(), ports)).or_default().entry(net).or_default();
        if known.is_empty() {
            description.clone_into(known);
        } else if !known.contains(description) {
            *known = format!("{known}, {description}");
        }
    }

    fn add_need(&mut self, need: &Need, options: &RuleOptions) {
        let description = purpose(need, 120);
        let any_address = [any(true), any(false)];
        let is_open = need.direction == Direction::Ingress && !options.by_remote;
        let peers: Vec<IpNet> = if is_open { any_address.into() } else { need.peers.iter().copied().collect() };
        for peer in peers {
            let (protocol, ports) = service(need.service, peer.addr().is_ipv4());
            self.add(&protocol, ports, peer, &description);
        }
    }

    fn document(&self) -> Value {
        let permission = |((protocol, ports), ranges): (&PermissionKey, &DescribedRanges)| {
            let mut permission = Map::from_iter([("IpProtocol".to_owned(), json!(protocol))]);
            if let Some((first, last)) = ports {
                permission.insert("FromPort".into(), json!(first));
                permission.insert("ToPort".into(), json!(last));
            }
            for (key, field, is_v4) in [("IpRanges", "CidrIp", true), ("Ipv6Ranges", "CidrIpv6", false)] {
                let of_family: Vec<Value> = ranges
                    .iter()
                    .filter(|(net, _)| net.addr().is_ipv4() == is_v4)
                    .map(|(net, text)| range(field, net, text))
                    .collect();
                if !of_family.is_empty() {
                    permission.insert(key.into(), of_family.into());
                }
            }
            Value::Object(permission)
        };
        self.0.iter().map(permission).collect()
    }

    fn over_quota(&self, way: &str) -> Option<String> {
        let count =
            |is_v4| self.0.values().flat_map(DescribedRanges::keys).filter(|net| net.addr().is_ipv4() == is_v4).count();
        let most = count(true).max(count(false));
        (most > MAX_RULES).then(|| {
            format!("{way} has {most} rules of one family; a group has at most {MAX_RULES} unless AWS raised the quota: use --generalize, or several groups.")
        })
    }
}

fn any(is_v4: bool) -> IpNet {
    let net = if is_v4 {
        IpNet::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0)
    } else {
        IpNet::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 0)
    };
    net.unwrap_or_default()
}

fn range(field: &str, net: &IpNet, description: &str) -> Value {
    // Characters that the API allows in a description (IpRange).
    let allowed = |c: char| c.is_ascii_alphanumeric() || ". _-:/()#,@[]+=&;{}!$*".contains(c);
    let text: String = description.chars().map(|c| if allowed(c) { c } else { '_' }).take(255).collect();
    let mut range = Map::from_iter([(field.to_owned(), json!(net.to_string()))]);
    if !text.is_empty() {
        range.insert("Description".into(), json!(text));
    }
    Value::Object(range)
}

/// Protocol and ports. The API has ICMP type and code as ports; the code of an echo request is 0.
fn service(service: Service, is_v4: bool) -> (String, Option<(u16, u16)>) {
    match service {
        Service::Ports(protocol, first, last) => match protocol {
            crate::flow::Protocol::TCP | crate::flow::Protocol::UDP => (protocol.to_string(), Some((first, last))),
            other => (other.0.to_string(), None),
        },
        Service::Echo if is_v4 => ("icmp".into(), Some((8, 0))),
        Service::Echo => ("icmpv6".into(), Some((128, 0))),
        Service::Protocol(protocol) => (protocol.0.to_string(), None),
    }
}
