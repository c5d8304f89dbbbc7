//! Parses resolv.conf(5) as glibc does (res_init.c), and renders the file that replaces it for the
//! target. Text in, text out; changes of the host's file are detected in [`super::upstream`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::wire::port;

/// MAXNS of glibc: later `nameserver` lines are ignored.
pub const MAX_NAMESERVERS: usize = 3;

/// RES_TIMEOUT of glibc: how long a client waits for its first attempt without `options timeout:`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// RES_MAXRETRANS of glibc, seconds.
const MAX_TIMEOUT: u64 = 30;

/// One `nameserver` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameserver {
    /// The address.
    pub address: IpAddr,
    /// The part after `%` in `fe80::1%eth0`: the name or index of an interface.
    pub scope: Option<String>,
}

impl Nameserver {
    /// Parses `198.51.100.7`, `2001:db8::7` or `fe80::1%eth0`, and the short IPv4 forms (`127.1`)
    /// that inet_aton(3) accepts.
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
    /// The first [`MAX_NAMESERVERS`] name servers, in order.
    pub nameservers: Vec<Nameserver>,
    /// `domain`, `search`, `sortlist` and `options` lines verbatim, without line ends.
    pub kept: Vec<Vec<u8>>,
}

/// Whether `options trust-ad` of the host is kept, with which a client accepts the AD
/// (authenticated data) bit of responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustAd {
    /// Keep it: the responses are those of the host's own resolvers, which the host trusts, and
    /// they pass only through this kernel and netwatch.
    Keep,
    /// Remove it: the resolvers were given with `--dns`, and the host has not declared that it
    /// trusts those.
    Remove,
}

impl ResolvConf {
    /// Parses the bytes of the file. Invalid lines are skipped, as by glibc.
    pub fn parse(text: &[u8]) -> Self {
        let mut conf = Self::default();
        for line in text.split(|byte| *byte == b'\n') {
            if let Some(rest) = value_of(line, b"nameserver") {
                conf.add_nameserver(rest);
            } else if KEPT_KEYWORDS.iter().any(|keyword| value_of(line, keyword).is_some()) {
                conf.kept.push(line.to_vec());
            }
        }
        conf
    }

    /// The name servers, except link-local ones, which have a scope.
    pub fn global_resolvers(&self) -> Vec<SocketAddr> {
        let global = self.nameservers.iter().filter(|server| server.scope.is_none());
        global.map(|server| SocketAddr::new(server.address, port::DNS)).collect()
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

    /// How long a client that uses this file waits before it sends a query again: the last `options
    /// timeout:`.
    pub fn timeout(&self) -> Duration {
        let options = self.kept.iter().filter_map(|line| value_of(line, b"options"));
        let words = options.flat_map(|rest| rest.split(|byte| b" \t".contains(byte)));
        words
            .filter_map(|word| std::str::from_utf8(word.strip_prefix(b"timeout:")?).ok()?.parse::<u64>().ok())
            .next_back()
            .map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.clamp(1, MAX_TIMEOUT)))
    }

    /// Renders the file for the target: the lines of the host, and the gateway as the only name
    /// server.
    ///
    /// One line and one address family suffice. Both gateway addresses lead to the same forwarder,
    /// which tries all resolvers of the host; with a second line, a client would only send its
    /// query to the same forwarder again, and wait twice as long before it gives up. Callers pass
    /// the IPv4 gateway where there is one.
    pub fn render(&self, gateway: IpAddr, trust_ad: TrustAd) -> Vec<u8> {
        let mut text = b"# Private to the command. netwatch forwards queries to the resolvers of the host.\n".to_vec();
        text.extend_from_slice(format!("nameserver {gateway}\n").as_bytes());
        for line in &self.kept {
            match trust_ad {
                TrustAd::Keep => text.extend_from_slice(line),
                TrustAd::Remove => text.extend_from_slice(&without_trust_ad(line)),
            }
            text.push(b'\n');
        }
        text
    }
}

const KEPT_KEYWORDS: [&[u8]; 4] = [b"domain", b"search", b"sortlist", b"options"];

/// MATCH of glibc: the keyword must begin in the first column and be followed by a blank, so an
/// indented line is ignored.
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

/// Parses as inet_aton(3): one to four numbers, decimal, octal or hexadecimal; the last one fills
/// the remaining bytes.
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
    // from_str_radix would accept a sign.
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
    fn parses_name_servers_as_glibc_does() {
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
        let text = String::from_utf8(conf.render(gateway, TrustAd::Keep)).unwrap();
        assert!(text.ends_with(
            "nameserver 198.51.100.1\ndomain example\nsearch  a.example b.example\n\
             options edns0 trust-ad ndots:2\nsortlist 198.51.100.0\n"
        ));
        let text = String::from_utf8(conf.render(gateway, TrustAd::Remove)).unwrap();
        assert!(text.contains("\noptions edns0 ndots:2\n"), "{text}");
    }

    #[test]
    fn parses_the_timeout() {
        let timeout = |text: &str| ResolvConf::parse(text.as_bytes()).timeout().as_secs();
        assert_eq!(timeout(""), 5);
        assert_eq!(timeout("options edns0 timeout:2"), 2);
        assert_eq!(timeout("options timeout:2\noptions timeout:0"), 1);
        assert_eq!(timeout("options timeout:99"), 30);
        assert_eq!(timeout("options timeout:x"), 5);
    }

    proptest! {
        #[test]
        fn parses_any_bytes_and_what_it_renders(
            text in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "(nameserver|search|options|domain|sortlist|#|;)[ \t]?[0-9a-fx.:%a-z -]{0,24}".prop_map(String::into_bytes),
            ], 0..12),
        ) {
            let conf = ResolvConf::parse(&text.join(&b'\n'));
            let gateway: IpAddr = "198.51.100.1".parse().unwrap();
            let written = conf.render(gateway, TrustAd::Keep);
            let again = ResolvConf::parse(&written);
            prop_assert_eq!(&again.kept, &conf.kept);
            prop_assert_eq!(again.timeout(), conf.timeout());
            prop_assert_eq!(again.nameservers.as_slice(), &[Nameserver { address: gateway, scope: None }]);
            prop_assert_eq!(again.render(gateway, TrustAd::Keep), written);
        }
    }
}
