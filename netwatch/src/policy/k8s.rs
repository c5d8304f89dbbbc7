//! Kubernetes: a NetworkPolicy (networking.k8s.io/v1).

use std::fmt::Write;

use super::header::{self, NAMES_LIMIT, commented};
use super::need::Need;
use super::yaml::{failed_attempts, inexpressible, name, ports, quoted, title};
use super::{Requirements, RuleOptions};
use crate::flow::Direction;

const USAGE: &str = "Apply with `kubectl apply -f FILE`. It selects pods by the label `app` below: replace it with yours. Responses to allowed \
    traffic need no rule. The policy has an effect only if the cluster's network plugin enforces policies.";
const LIMITS: &str = "ICMP, multicast and broadcast, and protocols other than TCP, UDP and SCTP; the network plugin decides whether they pass";
const DNS: &str = "    # DNS of the cluster
    - to:
        - namespaceSelector:
            matchLabels:
              kubernetes.io/metadata.name: \"kube-system\"
          podSelector:
            matchLabels:
              k8s-app: \"kube-dns\"
      ports:
        - {protocol: UDP, port: 53}
        - {protocol: TCP, port: 53}
";

pub(super) fn text(requirements: &Requirements, options: &RuleOptions) -> String {
    let lines = header::lines(requirements, options, &[USAGE], &[NAMES_LIMIT, LIMITS]);
    let name = quoted(name(requirements, options));
    let mut text = commented(&lines, "#") + &failed_attempts(requirements);
    text += &format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: {name}\nspec:\n  podSelector:\n    matchLabels:\n      app: {name}\n  \
        policyTypes: [Egress, Ingress]\n"
    );
    let mut egress = if requirements.dns { DNS.to_owned() + &resolvers(options) } else { String::new() };
    requirements.of_direction(Direction::Egress).for_each(|need| rule(&mut egress, need, options));
    section(&mut text, "egress", &egress);
    let mut ingress = String::new();
    requirements.of_direction(Direction::Ingress).for_each(|need| rule(&mut ingress, need, options));
    section(&mut text, "ingress", &ingress);
    let without_ports = requirements.needs.iter().filter(|need| ports(need.service).is_none());
    for need in requirements.groups.iter().chain(without_ports) {
        text += &inexpressible(need, "  ");
    }
    text
}

fn section(text: &mut String, name: &str, rules: &str) {
    *text += &if rules.is_empty() { format!("  {name}: []\n") } else { format!("  {name}:\n{rules}") };
}

/// The resolvers of `--resolver`, in addition to the cluster's.
fn resolvers(options: &RuleOptions) -> String {
    if options.resolvers.is_empty() {
        return String::new();
    }
    let mut text = "    - to:\n".to_owned();
    for resolver in &options.resolvers {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "        - ipBlock: {{cidr: {}}}", quoted(ipnet::IpNet::from(*resolver)));
    }
    text + "      ports:\n        - {protocol: UDP, port: 53}\n        - {protocol: TCP, port: 53}\n"
}

fn rule(text: &mut String, need: &Need, options: &RuleOptions) {
    let Some((protocol, first, last)) = ports(need.service) else { return };
    *text += &title(need, "    ");
    let port = if first == last { format!("port: {first}") } else { format!("port: {first}, endPort: {last}") };
    let ports = format!("ports:\n        - {{protocol: {protocol}, {port}}}\n");
    if need.direction == Direction::Ingress && !options.by_remote {
        *text += &format!("    - {ports}");
        return;
    }
    *text += if need.direction == Direction::Egress { "    - to:\n" } else { "    - from:\n" };
    for peer in &need.peers {
        let _ = writeln!(text, "        - ipBlock: {{cidr: {}}}", quoted(peer));
    }
    *text += &format!("      {ports}");
}
