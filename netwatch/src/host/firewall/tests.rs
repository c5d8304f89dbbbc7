//! Typical firewalls of hosts, and real packets through them.

use super::*;
use crate::host::nat::{LinkAddresses, Nat, NatSpec};
use crate::host::nft::testbed::{Echo, Internet, TestNamespace, ask, is_unanswered, link_index, until};
use crate::host::nft::{BaseChain, ChainKind, Rule};
use crate::undo::{Exclusive, RunDir};

/// A run with NAT on a host with forwarding, so only the firewall has to be opened.
struct Run {
    internet: Internet,
    dir: Option<RunDir>,
    _nat: Nat,
    _servers: Vec<Echo>,
}

const GATEWAYS: [&str; 2] = ["10.250.0.1:53", "[2001:db8:2::1]:53"];
const SERVERS: [&str; 2] = ["198.51.100.1:7", "[2001:db8:1::1]:7"];

impl Run {
    fn new(firewall: &str) -> Option<Self> {
        let mut internet = Internet::new()?;
        internet.forward();
        let dir = RunDir::create(&Exclusive::take().unwrap()).unwrap();
        internet.host.sh(&format!("ip link set {} name {}", internet.interface(), dir.id().interface()));
        internet.run = dir.id().clone();
        internet.host.sh(firewall);
        let run = internet.run.clone();
        let nat = internet.host.run(move || nat(&run));
        let mut servers: Vec<Echo> = SERVERS.map(|at| Echo::start(&internet.inet, at)).into();
        servers.extend(GATEWAYS.map(|at| Echo::start(&internet.host, at)));
        Some(Self { internet, dir: Some(dir), _nat: nat, _servers: servers })
    }

    fn open(&self) -> Vec<BlockedChain> {
        let (run, dir) = (self.internet.run.clone(), self.dir.as_ref().unwrap());
        let journal = Journal::open(dir).unwrap();
        self.internet.host.run(move || open(&spec(&run), &journal).unwrap())
    }

    fn repair(&self) -> RepairedFirewall {
        let (run, dir) = (self.internet.run.clone(), self.dir.as_ref().unwrap());
        let journal = Journal::open(dir).unwrap();
        self.internet.host.run(move || repair(&spec(&run), &journal).unwrap())
    }

    fn records(&self) -> Vec<ForeignRule> {
        let lines = Journal::read(self.dir.as_ref().unwrap().path()).unwrap();
        lines.iter().map(|line| line.read().unwrap().unwrap()).collect()
    }

    fn undo(&self) {
        let records = self.records();
        self.internet.host.run(move || {
            undo(&records[..1]).unwrap();
            undo(&records).unwrap();
            undo(&records).unwrap();
        });
    }

    /// The servers and the gateway's DNS answer the target in both families, or none of them does.
    #[track_caller]
    fn assert_reached(&self, is_open: bool) {
        // Clear the neighbor tables, including entries that failed within the last second, because
        // neighbor discovery must pass too.
        self.internet.host.sh("ip neigh flush all");
        self.internet.target.sh("ip neigh flush all");
        for to in SERVERS.iter().chain(&GATEWAYS) {
            let target = &self.internet.target;
            let is_right = if is_open { ask(target, to).is_some() } else { is_unanswered(target, to) };
            assert!(is_right, "{to} is open: {}; {}", !is_open, self.ruleset());
        }
    }

    fn ruleset(&self) -> String {
        self.internet.host.sh("nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*//'")
    }

    /// Verifies that the firewall is closed before the run opens it, open then, and unchanged after
    /// the undo.
    fn opens(&self) -> String {
        let before = self.ruleset();
        self.assert_reached(false);
        assert_eq!(self.open(), []);
        let opened = self.ruleset();
        self.assert_reached(true);
        assert!(is_unanswered(&self.internet.inet, "198.51.100.2:22"));
        self.undo();
        assert_eq!(self.ruleset(), before);
        self.assert_reached(false);
        opened
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.dir.take().unwrap().remove().unwrap();
    }
}

fn rule_in(family: u8) -> ForeignRule {
    ForeignRule { family, table: "filter".into(), chain: "FORWARD".into(), comment: "netwatch:00000000".into() }
}

fn spec(run: &RunId) -> OpenSpec<'_> {
    let interface = Box::leak(run.interface().into_boxed_str());
    OpenSpec { run, interface, dns_port: 53, publish: false }
}

fn nat(run: &RunId) -> Nat {
    Nat::install(&NatSpec {
        run,
        link: link_index(),
        ipv4: Some(LinkAddresses { gateway: "10.250.0.1".parse().unwrap(), target: "10.250.0.2".parse().unwrap() }),
        ipv6: Some(LinkAddresses {
            gateway: "2001:db8:2::1".parse().unwrap(),
            target: "2001:db8:2::2".parse().unwrap(),
        }),
        masquerade: true,
        dns_port: None,
        publish: &["8080:80/udp".parse().unwrap()],
    })
    .unwrap()
}

/// A strict firewall, which accepts replies to the host, and neighbor discovery on its uplink.
const IPTABLES: &str = "for t in iptables ip6tables; do
    $t -P FORWARD DROP; $t -P INPUT DROP
    $t -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
done
ip6tables -A INPUT -i eth0 -p ipv6-icmp -j ACCEPT";

#[test]
fn iptables_policies_are_opened_and_iptables_can_still_read_its_tables() {
    let Some(run) = Run::new(IPTABLES) else { return };
    run.opens();
    run.open();
    let interface = run.internet.interface();
    let listing = run.internet.host.sh("iptables -S FORWARD; iptables -S INPUT; ip6tables -S INPUT; iptables -L -v -n");
    for rule in [
        format!("-A FORWARD -i {interface} "),
        format!("-A FORWARD -o {interface} -m conntrack --ctstate RELATED,ESTABLISHED "),
        format!("-A INPUT -i {interface} -p udp -m udp --dport 53 "),
        format!("-A INPUT -i {interface} -p tcp -m tcp --dport 53 "),
        format!("-A INPUT -i {interface} -p ipv6-icmp "),
    ] {
        assert!(listing.contains(&rule), "{rule} is missing in\n{listing}");
    }
    assert!(!listing.contains("incompatible") && !listing.contains("unsupported"), "{listing}");
    // Other programs can still use it, and rules that they insert at the top do not hide netwatch's
    // from the undo.
    run.internet.host.sh("iptables -I FORWARD -i eth7 -j DROP; iptables-save | iptables-restore");
    run.undo();
    let listing = run.internet.host.sh("iptables -S; ip6tables -S");
    assert!(!listing.contains(&interface), "{listing}");
}

#[test]
fn iptables_rules_that_reject_are_opened() {
    let Some(run) = Run::new(
        "for t in iptables ip6tables; do
            $t -N side; $t -A side -j REJECT; $t -A FORWARD -j side
            $t -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            $t -A INPUT -p udp -j DROP
        done",
    ) else {
        return;
    };
    run.opens();
}

#[test]
fn nft_chains_are_opened() {
    let Some(run) = Run::new(
        "nft -f - <<'END'
        table inet filter {
            chain input {
                type filter hook input priority 0; policy drop;
                ct state established,related accept
                iifname eth0 meta l4proto ipv6-icmp accept
            }
            chain forward {
                type filter hook forward priority 10; policy accept;
                jump zones
            }
            chain zones { goto last; }
            chain last { counter reject with icmpx type admin-prohibited; }
            chain output { type filter hook output priority 0; policy accept; }
        }
        table ip6 more {
            chain any { type filter hook forward priority -5; policy drop; }
        }
END",
    ) else {
        return;
    };
    let opened = run.opens();
    let interface = run.internet.interface();
    let comment = run.internet.run.comment();
    for rule in [
        format!("iifname \"{interface}\" counter  accept comment \"{comment}\""),
        format!("oifname \"{interface}\" ct state established,related counter  accept"),
        format!("iifname \"{interface}\" udp dport 53 counter  accept"),
        format!("iifname \"{interface}\" meta l4proto ipv6-icmp counter  accept"),
    ] {
        assert!(opened.contains(&rule), "{rule} is missing in\n{opened}");
    }
}

#[test]
fn a_verdict_map_counts_as_a_drop() {
    let Some(host) = TestNamespace::new() else { return };
    host.sh("nft -f - <<'END'
        table inet t {
            chain f { type filter hook forward priority 0; policy accept; ct state vmap { invalid : drop, established : accept }; }
            chain i { type filter hook input priority 0; policy accept; accept; }
            chain p { type filter hook prerouting priority 0; policy drop; }
        }
END");
    let found = host.run(|| inspect().unwrap());
    assert_eq!(found, [Finding::Opens { chain: "inet t f".into(), hook: NftHook::Forward }]);
}

#[test]
fn published_ports_get_through_too() {
    for firewall in
        [IPTABLES, "nft 'add table inet f; add chain inet f f { type filter hook forward priority 0; policy drop; }'"]
    {
        let Some(run) = Run::new(firewall) else { return };
        let _server = Echo::start(&run.internet.target, "10.250.0.2:80");
        run.open();
        assert!(is_unanswered(&run.internet.inet, "198.51.100.2:8080"));
        run.undo();
        let (id, dir) = (run.internet.run.clone(), run.dir.as_ref().unwrap());
        let journal = Journal::open(dir).unwrap();
        run.internet.host.run(move || open(&OpenSpec { publish: true, ..spec(&id) }, &journal).unwrap());
        assert_eq!(ask(&run.internet.inet, "198.51.100.2:8080").as_deref(), Some("198.51.100.1"));
        run.undo();
    }
}

/// A table like firewalld's with its owner flag.
fn owned_table(open: bool) -> Nft {
    let nft = Nft::open().unwrap();
    let table = NftTable { family: NftFamily::Inet, name: "firewalld" };
    let mut batch = Batch::new();
    batch.create_owned_table(table);
    for (name, hook) in [("filter_FORWARD", NftHook::Forward), ("filter_INPUT", NftHook::Input)] {
        batch.create_chain(table, name, Some(BaseChain { kind: ChainKind::Filter, hook, priority: 10 }));
        if open {
            batch.append_rule(table, name, &Rule::new().iifname("nw00000000").accept());
        }
        batch.append_rule(table, name, &Rule::new().drop());
    }
    nft.commit(&batch).unwrap();
    nft
}

#[test]
fn reports_an_owned_table_with_the_command_that_opens_it() {
    let Some(host) = TestNamespace::new() else { return };
    host.run(|| {
        let table = owned_table(false);
        let found = inspect().unwrap();
        let Some(Finding::Blocked(blocked)) = found.first() else { panic!("{found:?}") };
        assert_eq!(found.len(), 2);
        assert_eq!(blocked.chain, "inet firewalld filter_FORWARD");
        assert_eq!(blocked.open, "firewall-cmd --zone=trusted --add-interface=nw+");
        assert!(blocked.cause.contains(" and no other program can change it"), "{blocked:?}");
        drop(table);
        until(|| inspect().unwrap().is_empty());
        let _table = owned_table(true);
        assert_eq!(inspect().unwrap(), [], "the user has opened it");
    });
}

/// The rules of [`IPTABLES`] in the tables of iptables-legacy, with a jump after the position of
/// the new rules.
const LEGACY: &str = "for t in iptables-legacy ip6tables-legacy; do
    $t -N side; $t -A side -s 192.0.2.7 -j RETURN 2>/dev/null || $t -A side -s 2001:db8:7::7 -j RETURN
    $t -A FORWARD -j side; $t -P FORWARD DROP; $t -P INPUT DROP
    $t -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; $t -A INPUT -i lo -j ACCEPT
done
ip6tables-legacy -A INPUT -i eth0 -p ipv6-icmp -j ACCEPT";

fn legacy_rules(run: &Run) -> String {
    run.internet.host.sh("iptables-legacy -S; ip6tables-legacy -S")
}

impl Run {
    fn undo_legacy(&self) {
        let lines = Journal::read(self.dir.as_ref().unwrap().path()).unwrap();
        let records: Vec<LegacyRules> = lines.iter().filter_map(|line| line.read().unwrap()).collect();
        assert!(!records.is_empty());
        let interface = self.internet.interface();
        self.internet.host.run(move || records.iter().for_each(|record| undo_legacy(&interface, record).unwrap()));
    }
}

#[test]
fn tables_of_iptables_legacy_are_opened_repaired_and_restored() {
    let Some(run) = Run::new(LEGACY) else { return };
    let before = legacy_rules(&run);
    run.assert_reached(false);
    assert_eq!(run.open(), []);
    run.assert_reached(true);
    let opened = legacy_rules(&run);
    let interface = run.internet.interface();
    for rule in [
        format!("-A FORWARD -o {interface} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        format!("-A FORWARD -i {interface} -j ACCEPT\n-A FORWARD -j side"),
        format!("-A INPUT -i {interface} -p udp -m udp --dport 53 -j ACCEPT"),
        format!("-A INPUT -i {interface} -p tcp -m tcp --dport 53 -j ACCEPT"),
        format!("-A INPUT -i {interface} -p ipv6-icmp -j ACCEPT"),
    ] {
        assert!(opened.contains(&rule), "{rule} is missing in\n{opened}");
    }
    assert_eq!(run.repair(), RepairedFirewall::default());
    assert_eq!(legacy_rules(&run), opened, "no rule twice");
    // Another program replaces the table, as iptables-restore does.
    run.internet.host.sh("iptables-legacy-save | grep -v ' nw' | iptables-legacy-restore");
    assert_eq!(
        run.repair().opened,
        ["iptables-legacy -t filter FORWARD", "iptables-legacy -t filter INPUT"],
        "{}",
        legacy_rules(&run)
    );
    assert_eq!(legacy_rules(&run), opened);
    // Rules that other programs insert at the top do not hide netwatch's from the undo.
    run.internet.host.sh("iptables-legacy -I FORWARD -i eth7 -j DROP; iptables-legacy -t nat -L");
    run.undo_legacy();
    assert_eq!(legacy_rules(&run).replace("-A FORWARD -i eth7 -j DROP\n", ""), before);
    run.undo_legacy();
    run.internet.host.sh("iptables-legacy -D FORWARD -i eth7 -j DROP");
    run.assert_reached(false);
}

#[test]
fn counters_of_iptables_legacy_are_kept() {
    let Some(run) = Run::new(LEGACY) else { return };
    let counts = || {
        let script = "for t in iptables-legacy ip6tables-legacy; do $t -L FORWARD -v -n -x; $t -L side -v -n -x; done";
        let all = run.internet.host.sh(script);
        let interface = run.internet.interface();
        all.lines().filter(|line| !line.contains(&interface)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(is_unanswered(&run.internet.target, SERVERS[0]));
    let before = counts();
    assert!(before.iter().any(|line| line.contains("side") && !line.trim_start().starts_with("0 ")), "{before:?}");
    run.open();
    assert_eq!(counts(), before);
    run.undo_legacy();
    assert_eq!(counts(), before);
}

#[test]
fn runs_share_a_table_of_iptables_legacy() {
    let Some(run) = Run::new(LEGACY) else { return };
    let before = legacy_rules(&run);
    let id = RunId::parse("00000001").unwrap();
    let journal = Journal::open(run.dir.as_ref().unwrap()).unwrap();
    run.internet.host.run(move || assert_eq!(open(&spec(&id), &journal).unwrap(), []));
    run.open();
    let both = legacy_rules(&run);
    assert!(both.contains("-i nw00000001 ") && both.contains(&run.internet.interface()), "{both}");
    run.undo_legacy();
    assert!(legacy_rules(&run).contains("-i nw00000001 "));
    for is_ipv6 in [false, true] {
        for table in ["filter", "nat"] {
            let record = LegacyRules::of_table(is_ipv6, table);
            run.internet.host.run(move || undo_legacy("nw00000001", &record).unwrap());
        }
    }
    assert_eq!(legacy_rules(&run), before);
}

#[test]
fn doctor_finds_the_tables_of_iptables_legacy_that_drop() {
    let Some(host) = TestNamespace::new() else { return };
    host.sh("iptables-legacy -L; ip6tables-legacy -L; iptables-legacy -t nat -L");
    host.run(|| assert_eq!(inspect().unwrap(), []));
    host.sh(
        "iptables-legacy -P FORWARD DROP; ip6tables-legacy -N side; ip6tables-legacy -A side -s 2001:db8::/32 -j REJECT
        ip6tables-legacy -A INPUT -j side; iptables-legacy -A INPUT -i lo -j ACCEPT; iptables-legacy -A INPUT -j ACCEPT
        iptables-legacy -A INPUT -j DROP",
    );
    let opens = |chain: &str, hook| Finding::Opens { chain: chain.into(), hook };
    let expected = [
        opens("iptables-legacy -t filter FORWARD", NftHook::Forward),
        opens("ip6tables-legacy -t filter INPUT", NftHook::Input),
    ];
    assert_eq!(host.run(|| inspect().unwrap()), expected);
    host.sh("iptables-legacy -I FORWARD -i nw+ -j ACCEPT; iptables-legacy -I FORWARD -o nw+ -j ACCEPT
        ip6tables-legacy -I INPUT -i nw+ -j ACCEPT");
    host.run(|| assert_eq!(inspect().unwrap(), [], "the user has opened them"));
}

#[test]
fn a_missing_chain_is_not_an_error() {
    let Some(host) = TestNamespace::new() else { return };
    host.run(|| {
        undo(&[rule_in(NftFamily::Ip as u8)]).unwrap();
        assert!(undo(&[rule_in(77)]).is_err());
    });
}

#[test]
fn a_reloaded_firewall_is_opened_again_and_an_intact_one_is_left_alone() {
    const DROPS: &str = "flush ruleset
        table inet filter {
            chain forward { type filter hook forward priority 0; policy drop; }
            chain input { type filter hook input priority 0; policy drop; iifname != \"nw*\" accept; }
        }";
    let reload = format!("nft -f - <<'END'\n{DROPS}\nEND");
    let Some(run) = Run::new(&reload) else { return };
    assert_eq!(run.open(), []);
    run.assert_reached(true);
    let ruleset = || run.internet.host.sh("nft -s list table inet filter");
    let intact = ruleset();
    assert_eq!(run.repair(), RepairedFirewall::default());
    assert_eq!(ruleset(), intact, "no rule twice");
    run.internet.host.sh(&reload);
    run.assert_reached(false);
    assert_eq!(run.repair().opened, ["inet filter forward", "inet filter input"]);
    assert_eq!(ruleset(), intact);
    run.assert_reached(true);
    run.undo();
    assert!(!ruleset().contains("netwatch"), "{}", ruleset());
}
