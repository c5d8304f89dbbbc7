//! What resolv.conf(5) says, read as glibc reads it (res_init.c), and the file that stands in for it in the namespace.
//! Text in, text out; following the host's file while it changes is [`super::upstream`]'s job.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// glibc's MAXNS: later `nameserver` lines are ignored.
pub const MAX_NAMESERVERS: usize = 3;

/// glibc's RES_TIMEOUT: how long a client waits for its first try when no `options timeout:` says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// glibc's RES_MAXRETRANS, seconds.
const MAX_TIMEOUT: u64 = 30;

/// One `nameserver` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameserver {
    /// Its address.
    pub address: IpAddr,
    /// What follows `%` in `fe80::1%eth0`: an interface name or index.
    pub scope: Option<String>,
}

impl Nameserver {
    /// Reads `198.51.100.7`, `2001:db8::7` or `fe80::1%eth0`, and the short IPv4 forms (`127.1`) that inet_aton(3) takes.
    pub fn parse(word: &str) -> Option<Self> {
        if let Some(address) = inet_aton(word) {
            return Some(Self { address: address.into(), scope: None });
        }
        let (address, scope) = match word.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (word, None),
        };
        Some(Self { address: address.parse::<Ipv6Addr>().ok()?.into(), scope })
    }
}

/// A parsed resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The first [`MAX_NAMESERVERS`] of them, in order.
    pub nameservers: Vec<Nameserver>,
    /// `domain`, `search`, `sortlist` and `options` lines as they stand, without line ends.
    pub kept: Vec<Vec<u8>>,
}

/// Whether the stub may go on believing the AD (authenticated data) bit because the host said `options trust-ad`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The answers are those of the host's own resolvers, which the host chose to trust, and between them and the command
    /// lie only this kernel and netwatch: the option stays.
    AsOnHost,
    /// Somebody else was named with `--dns`. The host never said that it trusts that one: `trust-ad` goes.
    Withdrawn,
}

impl ResolvConf {
    /// Reads the file's bytes. Nothing is an error: glibc passes over what it does not understand, and so do we.
    pub fn parse(text: &[u8]) -> Self {
        let mut conf = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            if let Some(rest) = value_of(line, b"nameserver") {
                conf.add_nameserver(rest);
            } else if KEPT.iter().any(|keyword| value_of(line, keyword).is_some()) {
                conf.kept.push(line.to_vec());
            }
        }
        conf
    }

    fn add_nameserver(&mut self, rest: &[u8]) {
        let end = rest.iter().position(|byte| b";# \t".contains(byte)).unwrap_or(rest.len());
        let word = std::str::from_utf8(&rest[..end]).ok();
        if self.nameservers.len() < MAX_NAMESERVERS
            && let Some(nameserver) = word.and_then(Nameserver::parse)
        {
            self.nameservers.push(nameserver);
        }
    }

    /// How long a client of this file waits before it asks again: `options timeout:`, the last one wins.
    pub fn timeout(&self) -> Duration {
        let options = self.kept.iter().filter_map(|line| value_of(line, b"options"));
        let words = options.flat_map(|rest| rest.split(|byte| b" \t".contains(byte)));
        words
            .filter_map(|word| std::str::from_utf8(word.strip_prefix(b"timeout:")?).ok()?.parse::<u64>().ok())
            .next_back()
            .map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.clamp(1, MAX_TIMEOUT)))
    }

    /// The namespace's file: the host's lines, and one name server, the gateway.
    ///
    /// One line and one family suffice. Both gateway addresses lead to the same forwarder, which fails over between the
    /// host's resolvers itself; a second line would only make a client ask the same one again and double its wait before
    /// it gives up. IPv4 is there in every namespace, so callers pass that one, and the IPv6 one where there is no IPv4.
    pub fn render(&self, gateway: IpAddr, trust: Trust) -> Vec<u8> {
        let mut text = b"# Private to the command: netwatch forwards from here to the host's resolvers.\n".to_vec();
        text.extend_from_slice(format!("nameserver {gateway}\n").as_bytes());
        for line in &self.kept {
            match trust {
                Trust::AsOnHost => text.extend_from_slice(line),
                Trust::Withdrawn => text.extend_from_slice(&without_trust_ad(line)),
            }
            text.push(b'\n');
        }
        text
    }
}

const KEPT: [&[u8]; 4] = [b"domain", b"search", b"sortlist", b"options"];

/// glibc's MATCH: the keyword stands in the first column and a blank follows it, so an indented line means nothing.
fn value_of<'a>(line: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(keyword)?;
    matches!(rest.first(), Some(b' ' | b'\t')).then(|| rest.trim_ascii_start())
}

fn without_trust_ad(line: &[u8]) -> Vec<u8> {
    if value_of(line, b"options").is_none() {
        return line.to_vec();
    }
    let words = line.split(|byte| b" \t".contains(byte)).filter(|word| *word != b"trust-ad");
    words.collect::<Vec<_>>().join(&b' ')
}

/// inet_aton(3): one to four numbers, decimal, octal or hexadecimal, the last one filling what is left.
fn inet_aton(word: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = word.split('.').collect();
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 {
        return None;
    }
    let mut address = 0u32;
    for (place, part) in leading.iter().enumerate() {
        address |= u32::from(u8::try_from(c_number(part)?).ok()?) << (24 - 8 * place);
    }
    let last = c_number(last)?;
    let room = u32::MAX.checked_shr(8 * leading.len() as u32)?;
    (last <= room).then(|| Ipv4Addr::from(address | last))
}

fn c_number(part: &str) -> Option<u32> {
    let hex = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
    let (digits, radix) = match (hex, part.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (part, 10),
    };
    // from_str_radix would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(text: &str) -> Vec<String> {
        let shown = |server: Nameserver| match server.scope {
            Some(scope) => format!("{}%{scope}", server.address),
            None => server.address.to_string(),
        };
        ResolvConf::parse(text.as_bytes()).nameservers.into_iter().map(shown).collect()
    }

    #[test]
    fn reads_name_servers_as_glibc_does() {
        let cases: &[(&str, &[&str])] = &[
            ("nameserver 198.51.100.1\nnameserver\t2001:db8::1\n", &["198.51.100.1", "2001:db8::1"]),
            ("nameserver fe80::1%eth0", &["fe80::1%eth0"]),
            ("nameserver 127.1\nnameserver 0x7f000001", &["127.0.0.1", "127.0.0.1"]),
            ("nameserver 198.51.100.1 # home\nnameserver 198.51.100.2;x", &["198.51.100.1", "198.51.100.2"]),
            (" nameserver 198.51.100.1\nnameserver198.51.100.2\n;nameserver 198.51.100.3\n", &[]),
            ("nameserver 198.51.100.1\r\nnameserver 1.2.3.4.5\nnameserver 300.1.1.1\nnameserver +1\nnameserver ", &[]),
            (
                "nameserver 198.51.100.1\nnameserver 198.51.100.2\nnameserver 198.51.100.3\nnameserver 198.51.100.4",
                &["198.51.100.1", "198.51.100.2", "198.51.100.3"],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(servers(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn renders_the_gateway_and_keeps_the_rest_verbatim() {
        let host = "# by the installer\ndomain example\nsearch  a.example b.example\nnameserver 127.0.0.53\n\
                    options edns0 trust-ad ndots:2\nsortlist 198.51.100.0\n";
        let conf = ResolvConf::parse(host.as_bytes());
        let gateway = "198.51.100.1".parse().unwrap();
        let text = String::from_utf8(conf.render(gateway, Trust::AsOnHost)).unwrap();
        assert!(text.ends_with(
            "nameserver 198.51.100.1\ndomain example\nsearch  a.example b.example\n\
             options edns0 trust-ad ndots:2\nsortlist 198.51.100.0\n"
        ));
        let text = String::from_utf8(conf.render(gateway, Trust::Withdrawn)).unwrap();
        assert!(text.contains("\noptions edns0 ndots:2\n"), "{text}");
    }

    #[test]
    fn knows_how_long_a_client_waits() {
        let timeout = |text: &str| ResolvConf::parse(text.as_bytes()).timeout().as_secs();
        assert_eq!(timeout(""), 5);
        assert_eq!(timeout("options edns0 timeout:2"), 2);
        assert_eq!(timeout("options timeout:2\noptions timeout:0"), 1);
        assert_eq!(timeout("options timeout:99"), 30);
        assert_eq!(timeout("options timeout:x"), 5);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_what_is_written_reads_back(
            text in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "(nameserver|search|options|domain|sortlist|#|;)[ \t]?[0-9a-fx.:%a-z -]{0,24}".prop_map(String::into_bytes),
            ], 0..12),
        ) {
            let conf = ResolvConf::parse(&text.join(&b'\n'));
            let gateway: IpAddr = "198.51.100.1".parse().unwrap();
            let written = conf.render(gateway, Trust::AsOnHost);
            let again = ResolvConf::parse(&written);
            prop_assert_eq!(&again.kept, &conf.kept);
            prop_assert_eq!(again.timeout(), conf.timeout());
            prop_assert_eq!(again.nameservers.as_slice(), &[Nameserver { address: gateway, scope: None }]);
            prop_assert_eq!(again.render(gateway, Trust::AsOnHost), written);
        }
    }
}
