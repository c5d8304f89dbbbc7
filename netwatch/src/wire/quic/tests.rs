//! The test vectors of RFC 9001 and RFC 9369, and packets built like them.

use proptest::prelude::*;
use ring::aead::quic::{AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};

use super::*;
use crate::wire::testing::{HelloBuilder, QUIC_INITIAL, hex, vector8};
use crate::wire::tls::Hello;

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;
/// RFC 9001 appendix A.
const DESTINATION: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

/// RFC 9369 appendix A.2: the same in version 2.
const PACKET_V2: &str = "
    d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071bf03dceebfa162e75d6c96058bdbfb127cdf
    cbf903388e99ad049f9a3dd4425ae4d0992cfff18ecf0fdb5a842d09747052f17ac2053d21f57c5d250f2c4f0e0202b70785b7946e992e58
    a59ac52dea6774d4f03b55545243cf1a12834e3f249a78d395e0d18f4d766004f1a2674802a747eaa901c3f10cda5500cb9122faa9f1df66
    c392079a1b40f0de1c6054196a11cbea40afb6ef5253cd6818f6625efce3b6def6ba7e4b37a40f7732e093daa7d52190935b8da58976ff33
    12ae50b187c1433c0f028edcc4c2838b6a9bfc226ca4b4530e7a4ccee1bfa2a3d396ae5a3fb512384b2fdd851f784a65e03f2c4fbe11a53c
    7777c023462239dd6f7521a3f6c7d5dd3ec9b3f233773d4b46d23cc375eb198c63301c21801f6520bcfb7966fc49b393f0061d974a2706df
    8c4a9449f11d7f3d2dcbb90c6b877045636e7c0c0fe4eb0f697545460c806910d2c355f1d253bc9d2452aaa549e27a1fac7cf4ed77f322e8
    fa894b6a83810a34b361901751a6f5eb65a0326e07de7c1216ccce2d0193f958bb3850a833f7ae432b65bc5a53975c155aa4bcb4f7b2c4e5
    4df16efaf6ddea94e2c50b4cd1dfe06017e0e9d02900cffe1935e0491d77ffb4fdf85290fdd893d577b1131a610ef6a5c32b2ee0293617a3
    7cbb08b847741c3b8017c25ca9052ca1079d8b78aebd47876d330a30f6a8c6d61dd1ab5589329de714d19d61370f8149748c72f132f0fc99
    f34d766c6938597040d8f9e2bb522ff99c63a344d6a2ae8aa8e51b7b90a4a806105fcbca31506c446151adfeceb51b91abfe43960977c874
    71cf9ad4074d30e10d6a7f03c63bd5d4317f68ff325ba3bd80bf4dc8b52a0ba031758022eb025cdd770b44d6d6cf0670f4e990b22347a7db
    848265e3e5eb72dfe8299ad7481a408322cac55786e52f633b2fb6b614eaed18d703dd84045a274ae8bfa73379661388d6991fe39b0d93de
    bb41700b41f90a15c4d526250235ddcd6776fc77bc97e7a417ebcb31600d01e57f32162a8560cacc7e27a096d37a1a86952ec71bd89a3e9a
    30a2a26162984d7740f81193e8238e61f6b5b984d4d3dfa033c1bb7e4f0037febf406d91c0dccf32acf423cfa1e7071010d3f270121b493c
    e85054ef58bada42310138fe081adb04e2bd901f2f13458b3d6758158197107c14ebb193230cd1157380aa79cae1374a7c1e5bbcb80ee23e
    06ebfde206bfb0fcbc0edc4ebec309661bdd908d532eb0c6adc38b7ca7331dce8dfce39ab71e7c32d318d136b6100671a1ae6a6600e3899f
    31f0eed19e3417d134b90c9058f8632c798d4490da4987307cba922d61c39805d072b589bd52fdf1e86215c2d54e6670e07383a27bbffb5a
    ddf47d66aa85a0c6f9f32e59d85a44dd5d3b22dc2be80919b490437ae4f36a0ae55edf1d0b5cb4e9a3ecabee93dfc6e38d209d0fa6536d27
    a5d6fbb17641cde27525d61093f1b28072d111b2b4ae5f89d5974ee12e5cf7d5da4d6a31123041f33e61407e76cffcdcfd7e19ba58cf4b53
    6f4c4938ae79324dc402894b44faf8afbab35282ab659d13c93f70412e85cb199a37ddec600545473cfb5a05e08d0b209973b2172b4d21fb
    69745a262ccde96ba18b2faa745b6fe189cf772a9f84cbfc";

fn observe(client: &mut QuicHandshake, datagram: &[u8]) -> (QuicVersion, Option<Hello>) {
    let observed = client.observe(datagram).unwrap();
    (observed.version, observed.hello.map(|hello| *hello))
}

#[test]
fn decrypts_the_vectors_of_both_rfcs() {
    for (packet, version) in [(QUIC_INITIAL, V1), (PACKET_V2, V2)] {
        let datagram = hex(packet);
        assert_eq!(looks_like(&datagram), Some(QuicVersion(version)));
        let mut handshake = QuicHandshake::default();
        assert_eq!(handshake.client_random(), None);
        let (observed, hello) = observe(&mut handshake, &datagram);
        let random = hex("ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c");
        assert_eq!(handshake.client_random(), Some(&random[..]));
        let hello = hello.unwrap();
        assert_eq!((observed.0, hello.server_name.unwrap().as_str()), (version, "example.com"));
        assert!(hello.whole);
        assert_eq!(hello.alpn[0].as_str(), "alpn");
        assert_eq!(hello.ja4.unwrap().as_str().split_once('_').unwrap().0, "q13d0211an");
    }
}

#[test]
fn computes_the_mask_of_the_rfc() {
    let derivation = QuicVersion(V1).derivations().next().unwrap();
    let keys = keys::Keys::client(&derivation, &DESTINATION).unwrap();
    assert_eq!(keys.mask(&hex("d1b1c98dd7689fb8ec11d242b123dc9b")), [0x43, 0x7b, 0x9a, 0xec, 0x36]);
}

struct Length(usize);

impl ring::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Encrypts a packet of version 1 as a client does, with a packet number of two bytes.
fn seal(version: u32, keyed_by: &[u8], destination: &[u8], number: u16, frames: &[u8]) -> Vec<u8> {
    let derivation = QuicVersion(version).derivations().next().unwrap();
    let expand = |secret: &Prk, label: &[u8], length: usize| {
        let info = [&(length as u16).to_be_bytes()[..], &vector8(&[b"tls13 ", label].concat()), &[0]].concat();
        let mut output = vec![0; length];
        secret.expand(&[&info], Length(length)).unwrap().fill(&mut output).unwrap();
        output
    };
    let initial = Salt::new(HKDF_SHA256, derivation.salt).extract(keyed_by);
    let secret = Prk::new_less_safe(HKDF_SHA256, &expand(&initial, b"client in", 32));
    let [key, iv, header] =
        derivation.labels.map(|label| expand(&secret, label, if label.ends_with(b"iv") { 12 } else { 16 }));
    let mut iv: [u8; 12] = iv.try_into().unwrap();
    iv[10] ^= (number >> 8) as u8;
    iv[11] ^= number as u8;
    let first = if version == V2 { 0xd1 } else { 0xc1 };
    let length = 2 + frames.len() + 16;
    let mut packet = [&[first][..], &version.to_be_bytes(), &vector8(destination), &[0, 0]].concat();
    packet.extend((0x4000 | length as u16).to_be_bytes());
    let number_at = packet.len();
    packet.extend(number.to_be_bytes());
    let mut payload = frames.to_vec();
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::from(&packet), &mut payload).unwrap();
    packet.extend(payload);
    let header = HeaderProtectionKey::new(&AES_128, &header).unwrap();
    let mask = header.new_mask(&packet[number_at + 4..number_at + 20]).unwrap();
    packet[0] ^= mask[0] & 0x0f;
    packet[number_at] ^= mask[1];
    packet[number_at + 1] ^= mask[2];
    packet
}

fn crypto(message: &[u8], from: usize, to: usize) -> Vec<u8> {
    let number = |value: usize| (0x4000 | value as u16).to_be_bytes();
    [&[6][..], &number(from), &number(to - from), &message[from..to]].concat()
}

fn large_hello() -> Vec<u8> {
    HelloBuilder::named("quic.example").alpn(&["h3"]).extension(51, vec![0; 1500]).message()
}

#[test]
fn reassembles_a_hello_from_packets_in_any_order() {
    let message = large_hello();
    let frames = |from, to| [vec![0, 1, 0], crypto(&message, from, to)].concat();
    let end = message.len();
    let packets: Vec<Vec<u8>> = [(900, end), (0, 400), (400, 900)]
        .iter()
        .zip(0..)
        .map(|((from, to), number)| seal(V1, &DESTINATION, &DESTINATION, number, &frames(*from, *to)))
        .collect();
    let mut client = QuicHandshake::default();
    assert_eq!(observe(&mut client, &packets[0]).1, None);
    // Two packets in one datagram, with zeros in between, as coalescing and offloading produce
    // them.
    let both = [&packets[1][..], &[0; 40], &packets[2]].concat();
    let hello = observe(&mut client, &both).1.unwrap();
    assert!(hello.whole);
    assert_eq!(hello.server_name.unwrap(), "quic.example");
}

#[test]
fn reassembles_a_hello_from_frames_in_any_order() {
    let message = large_hello();
    let shuffled = [(30, 500), (0, 10), (700, message.len()), (500, 700), (10, 30)];
    let frames: Vec<u8> =
        shuffled.iter().flat_map(|(from, to)| [crypto(&message, *from, *to), vec![0, 0, 1]].concat()).collect();
    let hello = observe(&mut QuicHandshake::default(), &seal(V2, &DESTINATION, &DESTINATION, 7, &frames)).1.unwrap();
    assert!(hello.whole);
}

#[test]
fn keeps_the_key_for_a_new_connection_id_and_changes_it_after_retry() {
    let message = large_hello();
    let end = message.len();
    let mut client = QuicHandshake::default();
    observe(&mut client, &seal(V1, &DESTINATION, &DESTINATION, 0, &crypto(&message, 0, 300)));
    let hello = observe(&mut client, &seal(V1, &DESTINATION, b"server", 1, &crypto(&message, 300, end))).1.unwrap();
    assert!(hello.whole, "keyed by the first id");
    let mut client = QuicHandshake::default();
    observe(&mut client, &seal(V1, &DESTINATION, &DESTINATION, 0, &crypto(&message, 0, 300)));
    let retry = [&[0xf0][..], &V1.to_be_bytes(), &[0], &vector8(b"retry"), b"token", &[0; 16]].concat();
    observe(&mut client, &retry);
    let hello = observe(&mut client, &seal(V1, b"retry", b"retry", 1, &crypto(&message, 0, end))).1.unwrap();
    assert!(hello.whole, "keyed by the server's id");
}

#[test]
fn decrypts_drafts_and_reserved_versions() {
    let message = HelloBuilder::named("quic.example").message();
    for version in
        [0xff00_0016, 0xff00_001b, 0xff00_001d, 0xface_b001, 0xface_b002, 0x1a2a_3a4a, u32::from_be_bytes(*b"T051")]
    {
        let is_google = version == u32::from_be_bytes(*b"T051");
        let mut frames = crypto(&message, 0, message.len());
        if is_google {
            frames[0] = 8;
        }
        let (observed, hello) =
            observe(&mut QuicHandshake::default(), &seal(version, &DESTINATION, &DESTINATION, 0, &frames));
        assert_eq!((observed.0, hello.unwrap().server_name.unwrap().as_str()), (version, "quic.example"), "{observed}");
    }
    assert_eq!(QuicVersion(0xff00_001d).to_string(), "draft-29");
    assert_eq!(QuicVersion(u32::from_be_bytes(*b"Q043")).to_string(), "Q043");
    assert_eq!((QuicVersion(V1).to_string(), QuicVersion(V2).to_string()), ("v1".into(), "v2".into()));
}

#[test]
fn ignores_damaged_packets_and_unknown_versions() {
    let mut datagram = hex(QUIC_INITIAL);
    datagram[600] ^= 1;
    assert_eq!(observe(&mut QuicHandshake::default(), &datagram).1, None);
    datagram[1..5].copy_from_slice(&[0, 0, 0, 9]);
    assert_eq!(QuicHandshake::default().observe(&datagram), None);
    assert_eq!(looks_like(&[0xc0, 0, 0, 0, 0, 0, 0]), None, "version negotiation");
    assert_eq!(looks_like(&[0xc0, 0, 0, 0, 1, 21]), None, "a connection ID of 21 bytes");
    assert_eq!(looks_like(b"\x40abcdefghijklm"), None, "a short header");
}

/// A CHLO with padding and a server name.
fn chlo(name: &[u8]) -> Vec<u8> {
    let end = 20 + name.len() as u32;
    [b"CHLO\x02\0\0\0PAD\0", &20u32.to_le_bytes()[..], b"SNI\0", &end.to_le_bytes(), &[b'-'; 20], name].concat()
}

fn google(header: &[u8], length: [u8; 2], name: &[u8]) -> Vec<u8> {
    [header, &[0xaa; 12], &[0, 0, 0xa0, 1], &length, &chlo(name)].concat()
}

#[test]
fn parses_versions_of_google() {
    let length = chlo(b"g.example").len() as u16;
    let old = google(b"\x09connidxxQ039\x01", length.to_be_bytes(), b"g.example");
    let older = google(b"\x09connidxxQ035\x01", length.to_le_bytes(), b"g.example");
    let q046 = google(b"\xc3Q046\x50connidxx\0\0\0\x01", length.to_be_bytes(), b"g.example");
    for datagram in [old, older, q046] {
        let observed = QuicHandshake::default().observe(&datagram).unwrap();
        assert_eq!(observed.chlo_name.unwrap(), "g.example", "{}", observed.version);
    }
    // A tag whose value ends after the message.
    let lying = google(b"\x09connidxxQ039\x01", [0xff, 0xff], b"");
    assert_eq!(QuicHandshake::default().observe(&lying[..60]).unwrap().chlo_name, None);
    let q050 = u32::from_be_bytes(*b"Q050");
    let message = chlo(b"g.example");
    let mut frames = crypto(&message, 0, message.len());
    frames[0] = 8;
    let observed = QuicHandshake::default().observe(&seal(q050, &DESTINATION, &DESTINATION, 0, &frames)).unwrap();
    assert_eq!(observed.chlo_name.unwrap(), "g.example");
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), start in prop::sample::select(vec![0xc0u8, 0xd0, 0x09, 0xe0])) {
        let mut client = QuicHandshake::default();
        for version in [V1, V2, 0xff00_001d, u32::from_be_bytes(*b"Q043"), u32::from_be_bytes(*b"Q046")] {
            let datagram = [&[start][..], &version.to_be_bytes(), &bytes].concat();
            client.observe(&datagram);
        }
        client.observe(&bytes);
        prop_assert!(client.held() <= 1 << 14);
    }

    /// With random frames.
    #[test]
    fn never_panics_on_decrypted_frames(frames in prop::collection::vec(any::<u8>(), 4..400), google: bool) {
        let version = if google { u32::from_be_bytes(*b"T050") } else { V1 };
        let mut client = QuicHandshake::default();
        client.observe(&seal(version, &DESTINATION, &DESTINATION, 0, &frames));
        prop_assert!(client.held() <= frames.len());
    }

    #[test]
    fn reassembles_random_fragments(cuts in prop::collection::vec(1usize..1600, 0..12), order: usize) {
        let message = large_hello();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < message.len()).chain([0, message.len()]).collect();
        cuts.sort_unstable();
        let mut pieces: Vec<Vec<u8>> = cuts.windows(2).map(|pair| crypto(&message, pair[0], pair[1])).collect();
        let count = pieces.len();
        pieces.rotate_left(order % count);
        let mut client = QuicHandshake::default();
        let hellos = pieces.iter().zip(0..).filter_map(|(piece, number)| {
            let padded = [&piece[..], &[0; 8]].concat();
            observe(&mut client, &seal(V1, &DESTINATION, &DESTINATION, number, &padded)).1
        });
        prop_assert!(hellos.last().unwrap().whole);
    }
}
