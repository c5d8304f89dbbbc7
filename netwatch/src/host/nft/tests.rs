//! Against the kernel, verified with the `nft` program.

use std::net::IpAddr;

use super::testbed::TestNamespace;
use super::*;

const TABLE: NftTable<'static> = NftTable { family: NftFamily::Inet, name: "netwatch-test" };

fn base(kind: ChainKind, hook: NftHook, priority: i32) -> Option<BaseChain> {
    Some(BaseChain { kind, hook, priority })
}

fn every_expression() -> Batch {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut batch = Batch::new();
    batch.create_owned_table(TABLE);
    batch.create_chain(TABLE, "guard", None);
    batch.create_chain(TABLE, "pre", base(ChainKind::Nat, NftHook::Prerouting, -100));
    batch.create_chain(TABLE, "post", base(ChainKind::Nat, NftHook::Postrouting, 100));
    batch.create_chain(TABLE, "forward", base(ChainKind::Filter, NftHook::Forward, 0));
    let tcp = || Rule::new().iif_not(1).protocol(6).destination_port(8080);
    let rules = [
        ("pre", tcp().ipv4().to_local().destination_nat(address("10.0.0.2"), 80)),
        ("pre", tcp().destination(address("2001:db8::1")).destination_nat(address("2001:db8::2"), 80)),
        ("pre", Rule::new().iifname("nw0").protocol(17).destination_port(53).redirect(5353)),
        ("post", Rule::new().iif(1).oif_not(1).counter().masquerade()),
        ("post", Rule::new().oifname("nw0").from_loopback_v4().masquerade()),
        ("forward", Rule::new().oif(1).established().accept()),
        ("forward", Rule::new().oifname("nw0").destination_translated().accept().comment("published")),
        ("forward", Rule::new().verdict(Verdict::Jump("guard".into()))),
        ("guard", Rule::new().ipv6().iifgroup_not(0x6e77).oifgroup_not(0x6e77).drop()),
    ];
    rules.iter().for_each(|(chain, rule)| batch.append_rule(TABLE, chain, rule));
    batch.insert_rule(TABLE, "forward", &Rule::new().to_loopback_v4().drop());
    batch
}

#[test]
fn nft_lists_the_rules_and_the_socket_owns_the_table() {
    let Some(ns) = TestNamespace::new() else { return };
    let nft = ns.run(|| {
        let nft = Nft::open().unwrap();
        nft.commit(&every_expression()).unwrap();
        nft
    });
    let listing = ns.sh("nft list ruleset");
    let lines = [
        "iif != \"lo\" tcp dport 8080 meta nfproto ipv4 fib daddr type local dnat ip to 10.0.0.2:80",
        "iif != \"lo\" tcp dport 8080 ip6 daddr 2001:db8::1 dnat ip6 to [2001:db8::2]:80",
        "iifname \"nw0\" udp dport 53 redirect to :5353",
        "iif \"lo\" oif != \"lo\" counter packets 0 bytes 0 masquerade",
        "oifname \"nw0\" ip saddr 127.0.0.0/8 masquerade",
        "oif \"lo\" ct state established,related accept",
        "oifname \"nw0\" ct status dnat accept comment \"published\"",
        "jump guard",
        "meta nfproto ipv6 iifgroup != 28279 oifgroup != 28279 drop",
        "type nat hook prerouting priority dstnat; policy accept;",
        "flags owner",
    ];
    for line in lines {
        assert!(listing.contains(line), "{line} is missing in\n{listing}");
    }
    assert!(!ns.try_sh("nft flush chain inet netwatch-test forward").0, "others cannot change it");
    drop(nft);
    ns.until_no_table();
}

#[test]
fn an_error_names_the_message_that_failed_and_nothing_is_left() {
    let Some(ns) = TestNamespace::new() else { return };
    ns.run(|| {
        let nft = Nft::open().unwrap();
        let mut batch = every_expression();
        batch.append_rule(TABLE, "nowhere", &Rule::new().accept());
        batch.append_rule(TABLE, "forward", &Rule::new().accept());
        let error = nft.commit(&batch).unwrap_err();
        assert_eq!(error.errno(), Some(nix::errno::Errno::ENOENT));
        assert!(error.to_string().starts_with("cannot add nftables rule to inet netwatch-test nowhere: "), "{error}");
        assert_eq!(nft.tables().unwrap(), []);
        nft.commit(&every_expression()).unwrap();
        let error = Nft::open().unwrap().commit(&every_expression()).unwrap_err();
        assert!(error.to_string().starts_with("cannot create nftables table inet netwatch-test: "), "{error}");
    });
}

#[test]
fn dumps_contain_policies_verdicts_and_comments() {
    let Some(ns) = TestNamespace::new() else { return };
    ns.sh("nft -f - <<'END'
        table inet t {
            map m { type iface_index : verdict; }
            chain side { reject with tcp reset; goto last; }
            chain last { drop; }
            chain f { type filter hook forward priority 0; policy drop;
                iifname \"nw*\" counter accept comment \"mine\"
                jump side
                iif vmap @m
            }
        }
        table arp other {
            chain c { type filter hook input priority 0; policy drop; }
        }
END
        iptables -A INPUT -j REJECT");
    ns.run(|| {
        let nft = Nft::open().unwrap();
        let tables: Vec<String> = nft.tables().unwrap().into_iter().map(|table| table.name).collect();
        assert_eq!(tables, ["t", "filter"]);
        let chains = nft.chains().unwrap();
        let forward = chains.iter().find(|chain| chain.name == "f").unwrap();
        assert_eq!(forward.base, Some(BaseInfo { hook: Some(NftHook::Forward), drops: true }));
        let rules = nft.rules(forward.table(), Some("f")).unwrap();
        let terms: Vec<&[RuleTerm]> = rules.iter().map(|rule| rule.terms.as_slice()).collect();
        let jump = RuleTerm::Verdict(Verdict::Jump("side".into()));
        let accept = [RuleTerm::InterfaceIn(b"nw".to_vec()), RuleTerm::Verdict(Verdict::Accept)];
        assert_eq!(terms, [&accept[..], &[jump], &[RuleTerm::VerdictMap]]);
        assert_eq!(rules[0].comment.as_deref(), Some("mine"));
        let rules = nft.rules(forward.table(), None).unwrap();
        assert_eq!(rules.iter().filter(|rule| rule.terms == [RuleTerm::Reject]).count(), 1);
        let filter = NftTable { family: NftFamily::Ip, name: "filter" };
        assert_eq!(nft.rules(filter, Some("INPUT")).unwrap()[0].terms, [RuleTerm::Reject]);
        assert_eq!(nft.rules(filter, Some("nowhere")).unwrap(), []);
        assert_eq!(nft.rules(NftTable { family: NftFamily::Ip, name: "nowhere" }, None).unwrap(), []);
        let mut batch = Batch::new();
        batch.delete_rule(forward.table(), "f", nft.rules(forward.table(), Some("f")).unwrap()[0].handle);
        nft.commit(&batch).unwrap();
        assert_eq!(nft.rules(forward.table(), Some("f")).unwrap().len(), 2);
    });
}
