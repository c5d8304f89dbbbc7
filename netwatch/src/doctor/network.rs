//! nf_tables, the uplink, the resolvers and the firewalls of other programs.

use std::fs;
use std::io;
use std::thread;

use nix::errno::Errno;

use super::Check;
use crate::dns::probe::{self, PROBE_TIMEOUT, ProbeResponse, ProbedResolver};
use crate::dns::resolv_conf::ResolvConf;
use crate::dns::upstream::Upstream;
use crate::error::{Error, Result};
use crate::host::firewall::{self, Finding};
use crate::host::forwarding::{Families, check_guards, unwritable_switches};
use crate::host::namespace;
use crate::host::netlink::Netlink;
use crate::host::uplink::{DefaultRoute, Uplink};
use crate::output_policy::{self, OutputPolicy, Sender};
use crate::target::user::Identity;
use crate::wire::port;

/// An error that `run` would have as well. Its hint, or else `advice`, is what to do.
fn failed(subject: &'static str, error: &Error, advice: &str) -> Check {
    let text = format!("{error:#}");
    let (cause, hint) = text.split_once("\nhint: ").unwrap_or((&text, advice));
    Check::fail(subject, cause, hint)
}

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
        Ok(switches) if switches.is_empty() => match check_guards(families) {
            Ok(()) => Check::ok(SUBJECT, "can be switched on, or is on"),
            Err(error) => failed(SUBJECT, &error, "give netwatch the right to read routing rules"),
        },
        Ok(switches) => Check::fail(
            SUBJECT,
            format!("/proc/sys cannot be written, and these are off: {}", switches.join(", ")),
            "in a container, mount /proc/sys writable (--privileged), or set them from outside (--sysctl)",
        ),
        Err(error) => Check::warn(SUBJECT, error.to_string(), "mount /proc"),
    }
}

/// Queries the resolvers of /etc/resolv.conf, as the forwarder does.
pub(super) fn resolvers() -> Check {
    const SUBJECT: &str = "resolvers";
    let resolvers = Upstream::host().resolvers();
    // In its own thread, so that the caller may have a runtime.
    let addresses = resolvers.addresses.clone();
    match thread::spawn(move || probe::probe(&addresses)).join() {
        Ok(Ok(probed)) => check_resolvers(SUBJECT, &probed),
        Ok(Err(error)) => Check::warn(SUBJECT, format!("cannot query them: {error}"), "free some file descriptors"),
        Err(_) => Check::warn(SUBJECT, "a thread panicked", "report this as a bug"),
    }
}

fn check_resolvers(subject: &'static str, probed: &[ProbedResolver]) -> Check {
    let detail = probed.iter().map(describe).collect::<Vec<_>>().join(", ");
    let answers = |one: &ProbedResolver| one.response.as_ref().is_ok_and(|response| response.failure.is_none());
    if probed.iter().all(answers) {
        return Check::ok(subject, detail);
    }
    let is_silent = |one: &ProbedResolver| one.response.is_err();
    let advice = match (probed.iter().any(is_silent), probed.iter().any(answers)) {
        (true, true) => "each name waits for those that do not answer: remove them from /etc/resolv.conf, or use --dns",
        (true, false) => "start a resolver, correct /etc/resolv.conf, or name one with --dns",
        (false, _) => {
            "queried for the root zone: names of zones that it does not serve itself may fail, see `dig . NS`"
        }
    };
    Check::warn(subject, detail, advice)
}

/// `192.0.2.53 answers in 2 ms`.
fn describe(probed: &ProbedResolver) -> String {
    let address = match probed.address.port() {
        port::DNS => probed.address.ip().to_string(),
        _ => probed.address.to_string(),
    };
    match &probed.response {
        Ok(ProbeResponse { failure: Some(code), .. }) => format!("{address} answers {code}"),
        Ok(ProbeResponse { time, .. }) => format!("{address} answers in {:.1} ms", time.as_secs_f64() * 1000.0),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            format!("{address} does not answer within {} s", PROBE_TIMEOUT.as_secs())
        }
        Err(error) => {
            let cause = error.raw_os_error().map(|number| Errno::from_raw(number).desc().to_owned());
            format!("{address}: {}", cause.unwrap_or_else(|| error.to_string()))
        }
    }
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
        Err(error) => failed(SUBJECT, &error, "run with sudo"),
    }
}

fn find_output_policy() -> Result<(Uplink, OutputPolicy)> {
    let user = Identity::of_sudo()?.map_or_else(Identity::own, Ok)?;
    let sender = Sender { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() };
    let uplink = Uplink::find(&mut Netlink::route()?)?;
    let resolvers = ResolvConf::parse(&fs::read("/etc/resolv.conf").unwrap_or_default()).global_resolvers();
    let policy = output_policy::find(&uplink, &resolvers, &sender)?;
    Ok((uplink, policy))
}

/// One check for each chain of another program that can drop the target's packets.
pub(super) fn firewall() -> Vec<Check> {
    const SUBJECT: &str = "forward policy";
    let findings = match firewall::inspect() {
        Ok(findings) => findings,
        Err(error) => return vec![failed(SUBJECT, &error, "run with sudo")],
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
    use std::time::Duration;

    use super::*;
    use crate::doctor::CheckStatus;
    use crate::wire::dns::Rcode;

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
    fn a_resolver_that_does_not_answer_is_a_warning() {
        let probed = |address: &str, response| ProbedResolver { address: address.parse().unwrap(), response };
        let answer = |failure| Ok(ProbeResponse { time: Duration::from_micros(1_250), failure });
        let refused = || Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
        let both = check_resolvers("resolvers", &[probed("192.0.2.53:53", answer(None))]);
        assert_eq!(both.to_string(), "ok    resolvers: 192.0.2.53 answers in 1.2 ms");
        let one = [probed("127.0.0.1:5353", refused()), probed("[2001:db8::53]:53", answer(None))];
        let one = check_resolvers("resolvers", &one).to_string();
        let expected = "warn  resolvers: 127.0.0.1:5353: Connection refused, 2001:db8::53 answers in";
        assert!(one.starts_with(expected) && one.contains("waits for those that do not answer"), "{one}");
        let timeout = || Err(io::ErrorKind::TimedOut.into());
        let none = [probed("192.0.2.1:53", timeout()), probed("192.0.2.2:53", answer(Some(Rcode::REFUSED)))];
        let none = check_resolvers("resolvers", &none).to_string();
        let refused = check_resolvers("resolvers", &[probed("192.0.2.2:53", answer(Some(Rcode::REFUSED)))]).to_string();
        assert!(refused.starts_with("warn") && refused.contains("→ queried for the root zone"), "{refused}");
        let expected = "192.0.2.1 does not answer within 2 s, 192.0.2.2 answers REFUSED → start a resolver";
        assert!(none.contains(expected), "{none}");
    }

    #[test]
    fn the_hint_of_an_error_is_the_advice() {
        let error = || Error::other("guard", "IPv4 forwarding", "the place is taken");
        let check = failed("forwarding", &error().hint("move the rule"), "run with sudo");
        assert_eq!(
            check.to_string(),
            "fail  forwarding: cannot guard IPv4 forwarding: the place is taken → move the rule"
        );
        assert_eq!(failed("forwarding", &error(), "run with sudo").advice.as_deref(), Some("run with sudo"));
    }

    #[test]
    fn root_can_use_nf_tables() {
        if nix::unistd::geteuid().is_root() {
            assert_eq!(nf_tables().status, CheckStatus::Ok, "{}", nf_tables());
        }
    }
}
