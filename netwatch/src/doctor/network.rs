//! nf_tables, the uplink, the resolvers and the firewalls of other programs.

use std::fs;
use std::io;
use std::thread;

use super::Check;
use crate::dns::resolv_conf::ResolvConf;
use crate::error::{Error, Result};
use crate::host::firewall::{self, Finding};
use crate::host::forwarding::{Families, unwritable_switches};
use crate::host::namespace;
use crate::host::netlink::Netlink;
use crate::host::uplink::{DefaultRoute, Uplink};
use crate::output_policy::{self, OutputPolicy, Sender};
use crate::target::user::Identity;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN`: requests the generation number of the rule set.
const GET_GENERATION: u16 = 10 << 8 | 16;

pub(super) fn nf_tables() -> Check {
    // In a new namespace: the only effect on the host is that the kernel loads the module.
    let reply =
        namespace::in_new(|| Netlink::netfilter()?.send_request("read nf_tables generation", GET_GENERATION, &[0; 4]));
    match reply.and_then(|reply| reply) {
        Ok(_) => Check::ok("nf_tables", "available"),
        Err(error) => Check::fail(
            "nf_tables",
            error.to_string(),
            "run with sudo; load the module nf_tables, or use a kernel with CONFIG_NF_TABLES",
        ),
    }
}

pub(super) fn uplink() -> Check {
    match Netlink::route().and_then(|mut netlink| Uplink::find(&mut netlink)) {
        Ok(uplink) => check_uplink(&uplink),
        Err(error) => Check::fail("uplink", error.to_string(), "netwatch needs rtnetlink"),
    }
}

fn check_uplink(uplink: &Uplink) -> Check {
    let family = |name: &str, route: &Option<DefaultRoute>| {
        route.as_ref().map(|route| match route.gateway {
            Some(gateway) => format!("{name} through {gateway} on {}", route.interface),
            None => format!("{name} on {}", route.interface),
        })
    };
    let routes: Vec<_> = [family("IPv4", &uplink.v4), family("IPv6", &uplink.v6)].into_iter().flatten().collect();
    if routes.is_empty() {
        return Check::warn("uplink", "no default route", "the command can reach only this host and its networks");
    }
    Check::ok("uplink", format!("{}; MTU {}", routes.join(", "), uplink.mtu()))
}

/// Whether the switches of forwarding are on, or can be turned on.
pub(super) fn forwarding() -> Check {
    const SUBJECT: &str = "forwarding";
    let uplink = Netlink::route().and_then(|mut netlink| Uplink::find(&mut netlink)).unwrap_or_default();
    let families = Families { ipv4: uplink.v4.is_some() || uplink.v6.is_none(), ipv6: uplink.v6.is_some() };
    match unwritable_switches(families) {
        Ok(switches) if switches.is_empty() => Check::ok(SUBJECT, "can be switched on, or is on"),
        Ok(switches) => Check::fail(
            SUBJECT,
            format!("/proc/sys cannot be written, and these are off: {}", switches.join(", ")),
            "in a container, mount /proc/sys writable (--privileged), or set them from outside (--sysctl)",
        ),
        Err(error) => Check::warn(SUBJECT, error.to_string(), "mount /proc"),
    }
}

pub(super) fn resolvers() -> Check {
    let path = "/etc/resolv.conf";
    match fs::read(path) {
        Ok(text) => check_resolvers(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Check::warn(
            "resolvers",
            format!("{path} does not exist; queries go to 127.0.0.1"),
            "set a resolver with --dns",
        ),
        Err(error) => Check::warn("resolvers", format!("cannot read {path}: {error}"), "set a resolver with --dns"),
    }
}

fn check_resolvers(text: &[u8]) -> Check {
    let servers = ResolvConf::parse(text).nameservers;
    if servers.is_empty() {
        return Check::warn(
            "resolvers",
            "/etc/resolv.conf has no nameserver; queries go to 127.0.0.1",
            "set a resolver with --dns",
        );
    }
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    Check::ok("resolvers", addresses.join(", "))
}

/// Whether the user of a command may send packets, determined as `run` does it.
pub(super) fn output_policy() -> Check {
    const SUBJECT: &str = "output policy";
    // In its own thread, because the check changes the user of the thread's new sockets.
    let found = thread::spawn(find_output_policy).join();
    match found.unwrap_or_else(|_| Err(Error::other("check", SUBJECT, "a thread panicked"))) {
        Ok((uplink, policy)) if policy.is_closed(&uplink) => {
            Check::fail(SUBJECT, policy.notes.join("; "), "run as a user who may send, or use --bypass-output-policy")
        }
        Ok((_, policy)) if policy.notes.is_empty() => Check::ok(SUBJECT, "the host lets the user of a command send"),
        Ok((_, policy)) => Check::warn(SUBJECT, policy.notes.join("; "), "compare with `nft list ruleset`"),
        Err(error) => Check::warn(SUBJECT, error.to_string(), "run as root"),
    }
}

fn find_output_policy() -> Result<(Uplink, OutputPolicy)> {
    let user = Identity::of_sudo()?.map_or_else(Identity::own, Ok)?;
    let sender = Sender { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() };
    let uplink = Uplink::find(&mut Netlink::route()?)?;
    let policy = output_policy::find(&uplink, &[], &sender)?;
    Ok((uplink, policy))
}

/// One check for each chain of another program that can drop the target's packets.
pub(super) fn firewall() -> Vec<Check> {
    const SUBJECT: &str = "forward policy";
    let findings = match firewall::inspect() {
        Ok(findings) => findings,
        Err(error) => return vec![Check::warn(SUBJECT, error.to_string(), "run as root")],
    };
    if findings.is_empty() {
        return vec![Check::ok(SUBJECT, "no chain of another program drops forwarded packets")];
    }
    let check = |finding| match finding {
        Finding::Opens { chain, .. } => {
            Check::ok(SUBJECT, format!("{chain} can drop packets; run opens it for its own interface"))
        }
        Finding::Blocked(blocked) => {
            Check::warn(SUBJECT, format!("{}: {}", blocked.chain, blocked.cause), blocked.open)
        }
    };
    findings.into_iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckStatus;

    #[test]
    fn describes_the_default_routes() {
        assert_eq!(check_uplink(&Uplink::default()).status, CheckStatus::Warn);
        let route = |interface: &str, gateway: Option<&str>| {
            let gateway = gateway.map(|gateway| gateway.parse().unwrap());
            let remote = "203.0.113.77".parse().unwrap();
            Some(DefaultRoute {
                interface: interface.into(),
                index: 2,
                gateway,
                remote,
                source: None,
                table: 254,
                mtu: 1420,
            })
        };
        let uplink = Uplink { v4: route("eth0", Some("203.0.113.1")), v6: route("wg0", None) };
        assert_eq!(
            check_uplink(&uplink).to_string(),
            "ok    uplink: IPv4 through 203.0.113.1 on eth0, IPv6 on wg0; MTU 1420"
        );
    }

    #[test]
    fn lists_the_resolvers() {
        assert_eq!(
            check_resolvers(b"# x\nsearch example\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n").detail,
            "127.0.0.53, fe80::1"
        );
        assert_eq!(check_resolvers(b"nameserver\nnameserver here\n").status, CheckStatus::Warn);
    }

    #[test]
    fn root_can_use_nf_tables() {
        if nix::unistd::geteuid().is_root() {
            assert_eq!(nf_tables().status, CheckStatus::Ok, "{}", nf_tables());
        }
    }
}
