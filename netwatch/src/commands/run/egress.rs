//! The host's policy for outgoing packets, found out while the classifier is loaded.

use std::net::SocketAddr;

use super::RunPlan;
use super::thread::PendingWork;
use crate::dns::resolv_conf::ResolvConf;
use crate::error::{Error, Result};
use crate::host::netlink::Netlink;
use crate::host::uplink::Uplink;
use crate::output_policy::{self, OutputPolicy, Sender};

/// Starts to find out what the user of the command may send. Fails if that is nothing, unless
/// `--bypass-output-policy` is given.
pub(super) fn start(plan: &RunPlan) -> Result<PendingWork<Result<OutputPolicy>>> {
    let user = &plan.user;
    let sender = Sender { name: user.name.clone(), uid: user.uid.as_raw(), gid: user.gid.as_raw() };
    let (resolvers, is_bypassed) = (resolvers(plan), plan.settings.bypass_output_policy);
    PendingWork::start("egress", move || if is_bypassed { Ok(OutputPolicy::open()) } else { find(&resolvers, &sender) })
}

fn find(resolvers: &[SocketAddr], sender: &Sender) -> Result<OutputPolicy> {
    let uplink = Uplink::find(&mut Netlink::route()?)?;
    let policy = output_policy::find(&uplink, resolvers, sender)?;
    if policy.is_closed(&uplink) {
        let cause = "the host's firewall lets this user send nothing, and would not stop packets that it forwards";
        return Err(Error::other("run as user", sender.name.clone(), cause)
            .hint("to run all the same, give --bypass-output-policy"));
    }
    Ok(policy)
}

/// The resolvers of the run, except link-local ones of the host. None if there is no resolv.conf:
/// the set-up of the forwarder reports that.
pub(super) fn resolvers(plan: &RunPlan) -> Vec<SocketAddr> {
    if !plan.dns.is_empty() {
        return plan.dns.clone();
    }
    ResolvConf::parse(&std::fs::read("/etc/resolv.conf").unwrap_or_default()).global_resolvers()
}
