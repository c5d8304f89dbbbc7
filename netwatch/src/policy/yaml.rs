//! Quoting, names and comments that both kinds of Kubernetes policies use.

use super::header::{failed_with_addresses, peers};
use super::need::{Need, Service};
use super::text::{comment, is_label, label};
use super::{Requirements, RuleOptions};
use crate::flow::Protocol;

/// The name of the policy, and the value of the label `app` that it selects.
pub(super) fn name(requirements: &Requirements, options: &RuleOptions) -> String {
    match &options.name {
        Some(name) if is_label(name) => name.clone(),
        name => label(name.as_deref().unwrap_or(requirements.subject()), "netwatch"),
    }
}

/// The text in double quotes. Callers pass letters, digits and `.:/*_-` only.
pub(super) fn quoted(text: impl ToString) -> String {
    format!("\"{}\"", text.to_string())
}

/// `TCP` and the first and last port; `None` for a service without ports.
pub(super) fn ports(service: Service) -> Option<(String, u16, u16)> {
    match service {
        Service::Ports(protocol @ (Protocol::TCP | Protocol::UDP | Protocol::SCTP), first, last) => {
            Some((protocol.to_string().to_ascii_uppercase(), first, last))
        }
        _ => None,
    }
}

/// `# app.example` before a rule.
pub(super) fn title(need: &Need, indent: &str) -> String {
    match &need.name {
        Some(name) => format!("{indent}# {}\n", comment(&name.to_string(), 200)),
        None => String::new(),
    }
}

/// A need that the format cannot express, as a comment.
pub(super) fn inexpressible(need: &Need, indent: &str) -> String {
    format!("{indent}# not expressible in this format: {}\n", peers(need))
}

/// Failed attempts, as comments.
pub(super) fn failed_attempts(requirements: &Requirements) -> String {
    let mut text = String::new();
    for (at, need) in requirements.not_opened().enumerate() {
        if at == 0 {
            text = format!("# {}\n", super::header::FAILED_ATTEMPTS);
        }
        text += &format!("#   {}\n", failed_with_addresses(need));
    }
    text
}
