//! Each format is accepted by its own tool.

use netwatch::flow::{FlowKey, Increment, Traffic};
use netwatch::policy::{AddressFamily, RuleFormat, RuleOptions};
use netwatch::report::Report;

use crate::sample::scene::{address, came, everything};
use crate::sample::{facts, growth, key, report, table};
use crate::tool::{PYTHON, has, python, sh};
use crate::{rules, variants};

/// A run without traffic.
fn nothing() -> Report {
    let table = netwatch::flow::FlowTable::default();
    report(facts(&table, &["true"]), &table)
}

/// The rules of a full and of an empty run, in every variant.
fn texts(format: RuleFormat, more: &[RuleOptions]) -> Vec<String> {
    let (everything, nothing) = (everything(), nothing());
    let options: Vec<RuleOptions> = variants().into_iter().chain(more.iter().cloned()).collect();
    let both = |options| [rules(format, &[&everything], options), rules(format, &[&nothing], options)];
    options.iter().flat_map(both).collect()
}

fn for_user(user: &str) -> RuleOptions {
    RuleOptions { user: Some(user.into()), ..RuleOptions::default() }
}

#[test]
fn nft_loads_the_rules_and_replaces_them() {
    if !has("nft", &["unshare", "--net", "/usr/sbin/nft", "list", "ruleset"]) {
        return;
    }
    for text in texts(RuleFormat::Nft, &[for_user("root"), for_user("4242")]) {
        let script = "nft -c -f rules; nft -f rules; nft list ruleset > once; nft -f rules; nft list ruleset > twice; cmp once twice; cat once";
        let output = sh(script, &text);
        output.assert_ok(&text);
        assert!(output.text.contains("table inet netwatch") && output.text.contains("hook output"), "{}", output.text);
        assert!(
            sh("nft -f rules; nft delete table inet netwatch; test -z \"$(nft list ruleset)\"", &text).ok,
            "the documented way to remove them"
        );
    }
}

#[test]
fn iptables_loads_replaces_and_removes_the_rules() {
    if !has("iptables", &["unshare", "--net", "/usr/sbin/iptables", "-S"]) {
        return;
    }
    for text in texts(RuleFormat::Iptables, &[for_user("root"), for_user("4242")]) {
        let script = "iptables-save > empty4; ip6tables-save > empty6
            sh rules --test; test \"$(iptables -S | grep -c netwatch)\" = 0
            sh rules; iptables -S > once; ip6tables -S >> once
            sh rules; iptables -S > twice; ip6tables -S >> twice; cmp once twice
            test \"$(grep -c -e '^-A OUTPUT .*-j netwatch-out' once)\" = 2
            cat once
            sh rules --remove; test \"$(iptables -S; ip6tables -S)\" = \"$(printf -- '-P INPUT ACCEPT\\n-P FORWARD ACCEPT\\n-P OUTPUT ACCEPT\\n-P INPUT ACCEPT\\n-P FORWARD ACCEPT\\n-P OUTPUT ACCEPT')\"";
        sh(script, &text).assert_ok(&text);
    }
}

#[test]
fn the_iptables_script_loads_nothing_for_an_unknown_argument() {
    if !has("iptables", &["unshare", "--net", "/usr/sbin/iptables", "-S"]) {
        return;
    }
    let text = rules(RuleFormat::Iptables, &[&everything()], &RuleOptions::default());
    for arguments in ["--help", "-h", "--tset", "remove", "''", "--test --remove", "--remove now"] {
        let script = format!(
            "code=0; sh rules {arguments} > output 2>&1 || code=$?; cat output; test $code = 2
            grep -q 'usage: sh rules \\[--test | --remove\\]' output; test \"$(iptables -S | grep -c netwatch)\" = 0"
        );
        sh(&script, &text).assert_ok(arguments);
    }
}

#[test]
fn iptables_rules_of_one_user_replace_those_of_the_machine_and_back() {
    if !has("iptables", &["unshare", "--net", "/usr/sbin/iptables", "-S"]) {
        return;
    }
    let all = rules(RuleFormat::Iptables, &[&everything()], &RuleOptions::default());
    let one = rules(RuleFormat::Iptables, &[&everything()], &for_user("4242"));
    let put = |name: &str, text: &str| format!("cat > {name} <<'THE END'\n{text}THE END\n");
    let script = put("all", &all)
        + &put("one", &one)
        + "iptables -S > empty
        sh one; iptables -S > once
        sh all; iptables -A INPUT -m comment --comment 'by hand: a b' -j netwatch-in; sh one; iptables -S > again
        cat again; cmp once again; grep -q -x -e '-A OUTPUT -m owner --uid-owner 4242 -j netwatch-out' again
        test \"$(grep -c -e '-j netwatch' again)\" = 1
        sh all; iptables -S > machine; test \"$(grep -c -e '-j netwatch' machine)\" = 2
        sh one --remove; iptables -S > gone; cmp empty gone; ip6tables -S > gone; cmp empty gone
        sh one; sh all --remove; iptables -S > gone; cmp empty gone; ip6tables -S > gone; cmp empty gone";
    sh(&script, "").assert_ok(&one);
}

#[test]
fn iptables_restore_loads_one_address_family() {
    if !has("iptables", &["unshare", "--net", "/usr/sbin/iptables-restore", "--version"]) {
        return;
    }
    for (family, restore, save) in [
        (AddressFamily::V4, "iptables-restore", "iptables-save"),
        (AddressFamily::V6, "ip6tables-restore", "ip6tables-save"),
    ] {
        let one = RuleOptions { family: Some(family), ..RuleOptions::default() };
        for text in texts_of(&one) {
            let script = format!("{restore} --test rules; {restore} rules; {save}");
            let output = sh(&script, &text);
            output.assert_ok(&text);
            assert!(output.text.contains("-A OUTPUT -j netwatch-out"), "{}", output.text);
        }
    }
}

fn texts_of(options: &RuleOptions) -> [String; 2] {
    [rules(RuleFormat::Iptables, &[&everything()], options), rules(RuleFormat::Iptables, &[&nothing()], options)]
}

#[test]
fn ufw_accepts_every_command() {
    if !has("ufw", &["unshare", "--net", "/usr/sbin/ufw", "version"]) {
        return;
    }
    for text in texts(RuleFormat::Ufw, &[]) {
        let output = sh("UFW='ufw --dry-run' sh rules", &text);
        output.assert_ok(&text);
        assert!(!output.text.contains("ERROR") && !output.text.contains("Skipping"), "{}\n{text}", output.text);
    }
    let output = sh("UFW='ufw --dry-run' sh rules", &rules(RuleFormat::Ufw, &[&everything()], &RuleOptions::default()));
    for rule in [
        "-A ufw-user-output -p tcp -d 203.0.113.10 --dport 443 -j ACCEPT",
        "-A ufw-user-input -p tcp --dport 8080 -j ACCEPT",
    ] {
        assert!(output.text.lines().any(|line| line.trim_start().starts_with(rule)), "{rule}: {}", output.text);
    }
}

/// Servers and peers of protocols that ufw has no command for.
fn without_ufw_command() -> Report {
    let out = |port| exchange(key(132, 40_000, address("203.0.113.31"), port));
    let increments =
        [came("198.51.100.200", 132, 9899), came("2001:db8:2::7", 89, 0), out(40_001), out(40_002), out(40_003)];
    let table = table(increments);
    report(facts(&table, &["server"]), &table)
}

fn exchange(key: FlowKey) -> Increment {
    growth(Traffic::Flow(key), (1, 90), (1, 90))
}

#[test]
fn lines_for_the_rules_files_of_ufw_name_the_right_chain_and_load() {
    let generalize = Some(netwatch::policy::Generalize::default());
    let text = rules(RuleFormat::Ufw, &[&without_ufw_command()], &RuleOptions { generalize, ..RuleOptions::default() });
    let by_remote =
        rules(RuleFormat::Ufw, &[&without_ufw_command()], &RuleOptions { by_remote: true, ..RuleOptions::default() });
    for (text, line) in [
        (&text, "# /etc/ufw/before.rules: -A ufw-before-input -p sctp --dport 9899 -j ACCEPT"),
        (&text, "# /etc/ufw/before6.rules: -A ufw6-before-input -p sctp --dport 9899 -j ACCEPT"),
        (&text, "# /etc/ufw/before.rules: -A ufw-before-input -p 89 -j ACCEPT"),
        (&text, "# /etc/ufw/before6.rules: -A ufw6-before-input -p 89 -j ACCEPT"),
        (&text, "# /etc/ufw/before.rules: -A ufw-before-output -d 203.0.113.31 -p sctp --dport 32768:65535 -j ACCEPT"),
        (&by_remote, "# /etc/ufw/before.rules: -A ufw-before-input -s 198.51.100.200 -p sctp --dport 9899 -j ACCEPT"),
        (&by_remote, "# /etc/ufw/before6.rules: -A ufw6-before-input -s 2001:db8:2::7 -p 89 -j ACCEPT"),
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    assert_eq!(by_remote.matches("-before-input").count(), 2, "{by_remote}");
    if !has("iptables", &["unshare", "--net", "/usr/sbin/iptables", "-S"]) {
        return;
    }
    let everything = rules(RuleFormat::Ufw, &[&everything()], &RuleOptions::default());
    for text in [text, by_remote, everything] {
        let script = "for of in 'before ufw iptables' 'before6 ufw6 ip6tables'; do
            set -- $of
            { echo '*filter'; echo \":$2-before-input - [0:0]\"; echo \":$2-before-output - [0:0]\"
              sed -n \"s|^# /etc/ufw/$1.rules: ||p\" rules; echo COMMIT; } > lines
            grep -q ACCEPT lines; $3-restore --test lines
        done";
        sh(script, &text).assert_ok(&text);
    }
}

/// Replaces `firewall-cmd`: parses each rich rule as firewalld does, and rejects unknown options.
const FIREWALL_CMD: &str = "
import sys
from firewall.core.rich import Rich_Rule
arguments = sys.argv[1:]
known = {'--delete-policy', '--new-policy', '--add-ingress-zone', '--add-egress-zone', '--set-target', '--add-rich-rule', '--policy'}
while arguments:
    option, value, *arguments = arguments
    assert option in known, option
    if option.endswith('policy'): assert len(value) <= 17, value
    if option == '--add-rich-rule':
        rule = Rich_Rule(rule_str=value)
        rule.check()
        print(rule)
";

#[test]
fn firewalld_accepts_every_command() {
    if !has("python3-firewall", &[PYTHON, "-c", "import firewall.core.rich"]) {
        return;
    }
    for text in texts(RuleFormat::Firewalld, &[]) {
        let script = format!("cat > cmd <<'END'\n{FIREWALL_CMD}END\nFIREWALL_CMD='{PYTHON} cmd' sh rules");
        let output = sh(&script, &text);
        output.assert_ok(&text);
        let rules = output.text.lines().filter(|line| line.starts_with("rule ")).count();
        assert_eq!(
            rules,
            text.lines().filter(|line| line.starts_with("$cmd") && line.contains("--add-rich-rule")).count()
        );
    }
}

/// Reads one YAML document and validates it against a schema.
const VALIDATE: &str = "
import json, sys, yaml, jsonschema
schema = json.load(open(sys.argv[1]))
jsonschema.Draft7Validator.check_schema(schema)
documents = list(yaml.safe_load_all(sys.stdin))
assert len(documents) == 1, documents
jsonschema.validate(documents[0], schema)
print(json.dumps(documents[0]))
";

fn schema(name: &str) -> String {
    format!("{}/tests/policy/{name}.schema.json", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn kubernetes_policies_match_the_published_schema() {
    if !has("python3-jsonschema and python3-yaml", &[PYTHON, "-c", "import jsonschema, yaml"]) {
        return;
    }
    for (format, schema) in
        [(RuleFormat::K8s, schema("networkpolicy")), (RuleFormat::Cilium, schema("ciliumnetworkpolicy"))]
    {
        for text in texts(format, &[]) {
            python(VALIDATE, &[&schema], &text).assert_ok(&text);
        }
        let wrong = rules(format, &[&everything()], &RuleOptions::default())
            .replace("cidr:", "cider:")
            .replace("toCIDR:", "toCider:");
        assert!(!python(VALIDATE, &[&schema], &wrong).ok, "the schema rejects a wrong document");
    }
}

/// Validates against the service model of the aws command, and against the characters that the API
/// allows in descriptions.
const AWS: &str = "
import json, re, sys
import botocore.session
from botocore.validate import ParamValidator
model = botocore.session.get_session().get_service_model('ec2')
document = json.load(sys.stdin)
assert set(document) == {'about', 'egress', 'ingress'}
for way in ('egress', 'ingress'):
    shape = model.operation_model('AuthorizeSecurityGroup' + way.capitalize()).input_shape
    report = ParamValidator().validate({'GroupId': 'sg-0', 'IpPermissions': document[way]}, shape)
    assert not report.has_errors(), report.generate_report()
    for permission in document[way]:
        assert {'IpProtocol'} <= set(permission) <= {'IpProtocol', 'FromPort', 'ToPort', 'IpRanges', 'Ipv6Ranges'}, permission
        for range in permission.get('IpRanges', []) + permission.get('Ipv6Ranges', []):
            assert re.fullmatch(r'[a-zA-Z0-9. _\\-:/()#,@\\[\\]+=&;{}!$*]{0,255}', range.get('Description', '')), range
";

#[test]
fn aws_accepts_the_permissions() {
    if !has("python3-botocore", &[PYTHON, "-c", "import botocore.session"]) {
        return;
    }
    for text in texts(RuleFormat::AwsSg, &[]) {
        python(AWS, &[], &text).assert_ok(&text);
    }
    let wrong = rules(RuleFormat::AwsSg, &[&everything()], &RuleOptions::default()).replace("CidrIp\"", "Cidr\"");
    assert!(!python(AWS, &[], &wrong).ok, "the model rejects a wrong document");
}

#[test]
fn systemd_accepts_the_drop_in() {
    if !has("systemd-analyze", &["systemd-analyze", "--version"]) {
        return;
    }
    let verify = "printf '[Service]\\nExecStart=/bin/true\\n' > nwrules.service; mkdir nwrules.service.d; cp rules nwrules.service.d/netwatch.conf
        systemd-analyze verify ./nwrules.service";
    for text in texts(RuleFormat::Systemd, &[]) {
        let output = sh(verify, &text);
        output.assert_ok(&text);
        let about_us: Vec<&str> = output.text.lines().filter(|line| line.contains("netwatch.conf")).collect();
        assert!(about_us.is_empty(), "{about_us:?}\n{text}");
    }
    let wrong =
        rules(RuleFormat::Systemd, &[&everything()], &RuleOptions { by_remote: true, ..RuleOptions::default() });
    let output = sh(verify, &wrong.replace("IPAddressAllow=203", "IPAddressAllow=x203"));
    assert!(output.text.contains("netwatch.conf"), "it does read it: {}", output.text);
}
