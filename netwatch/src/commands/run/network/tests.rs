//! The host thread against real switches, with the lock held by another process.

use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::host_thread::HostThread;
use crate::host::firewall::FirewallWatch;
use crate::host::forwarding::{Families, Forwarding, ForwardingSpec, Ipv6Switch};
use crate::host::nat::{LinkAddresses, Nat, NatSpec};
use crate::host::nft::testbed::link_index;
use crate::host::testing::{in_fresh_namespace, ip};
use crate::undo::{Exclusive, Journal, RunDir};

const SWITCH: &str = "/proc/sys/net/ipv4/conf/eth1/forwarding";
/// Bounds every wait for a condition.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

fn nat(run: &RunDir) -> Arc<Nat> {
    let spec = NatSpec {
        run: run.id(),
        link: link_index(),
        ipv4: Some(LinkAddresses { gateway: "10.250.0.1".parse().unwrap(), target: "10.250.0.2".parse().unwrap() }),
        ipv6: None,
        masquerade: true,
        dns_port: None,
        publish: &[],
    };
    Arc::new(Nat::install(&spec).unwrap())
}

fn started(run: &RunDir) -> HostThread {
    let nat = nat(run);
    let spec = ForwardingSpec {
        run: run.id().clone(),
        families: Families { ipv4: true, ipv6: false },
        subnets: vec!["10.250.0.0/30".parse().unwrap()],
        ipv6_switch: Ipv6Switch::of_kernel(),
    };
    let held = Exclusive::take().unwrap();
    let forwarding = Forwarding::enable(spec, &Journal::open(run).unwrap(), &nat, &held).unwrap();
    let host = HostThread::start(nat, FirewallWatch::follow().unwrap()).unwrap();
    host.follow(forwarding);
    host
}

/// Another process that holds the lock until its standard input is closed.
fn lock_elsewhere() -> Child {
    let script = "exec 9>/run/netwatch/lock && flock 9 && echo locked && read -r _";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    assert_eq!(line, "locked\n");
    child
}

fn unlock(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn the_event_loop_does_not_wait_for_the_lock() {
    in_fresh_namespace(|| {
        let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
        let mut host = started(&run);
        ip("link add eth1 type veth peer name eth2");
        let other = lock_elsewhere();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            (0..1000).for_each(|_| host.interfaces_changed());
            let event = timeout(Duration::from_millis(50), host.event()).await;
            assert!(event.is_err(), "the update waits for the lock: {event:?}");
        });
        // The caller did not wait for the lock, which is still held.
        assert_eq!(fs::read_to_string(SWITCH).unwrap(), "0\n");
        unlock(other);
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while fs::read_to_string(SWITCH).unwrap() == "0\n" {
            assert!(Instant::now() < deadline, "the update was lost");
            std::thread::yield_now();
        }
        runtime.block_on(host.close().wait());
        assert_eq!(fs::read_to_string(SWITCH).unwrap(), "0\n", "switched back");
        run.remove().unwrap();
    });
}

#[test]
fn closing_waits_for_the_lock_and_keeps_the_table_until_then() {
    in_fresh_namespace(|| {
        let run = RunDir::create(&Exclusive::take().unwrap()).unwrap();
        let host = started(&run);
        let other = lock_elsewhere();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut closing = host.close();
        runtime.block_on(async {
            assert!(timeout(Duration::from_millis(50), closing.wait()).await.is_err());
        });
        assert!(closing.table().is_some(), "the guard goes after the switches");
        unlock(other);
        runtime.block_on(closing.wait());
        assert!(closing.table().is_none());
        run.remove().unwrap();
    });
}
