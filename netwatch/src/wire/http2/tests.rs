//! The examples of RFC 7541 appendix C, and connections built from them.

use proptest::prelude::*;

use super::hpack::Decoder;
use super::*;
use crate::wire::testing::hex;

fn decode(decoder: &mut Decoder, block: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = |name: &[u8], value: &[u8]| {
        fields.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
    };
    decoder.decode(&hex(block), &mut field).unwrap();
    fields
}

/// Appendices C.3 (plain) and C.4 (Huffman): the same three requests on one connection.
#[test]
fn decodes_the_requests_of_the_rfc() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, huffman] {
        let mut decoder = Decoder::default();
        let requests: Vec<_> = blocks.iter().map(|block| decode(&mut decoder, block)).collect();
        assert_eq!(requests[0], [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"]);
        assert_eq!(requests[1].last().unwrap(), "cache-control: no-cache");
        assert_eq!(requests[2][1..3], [":scheme: https", ":path: /index.html"]);
        assert_eq!(requests[2].last().unwrap(), "custom-key: custom-value");
        assert_eq!(decoder.size(), 164);
    }
}

/// Appendix C.5: a table of 256 octets, from which entries are evicted.
#[test]
fn evicts_entries() {
    let mut decoder = Decoder::default();
    // The RFC assumes this size; here it is sent first.
    decode(&mut decoder, "3fe1 01");
    decode(
        &mut decoder,
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    );
    assert_eq!(decoder.size(), 222);
    let second = decode(&mut decoder, "4803 3330 37c1 c0bf");
    assert_eq!(
        second,
        [
            ":status: 307",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com"
        ]
    );
    assert_eq!(decoder.size(), 222);
}

#[test]
fn refuses_invalid_blocks() {
    let refused = |block: &str| Decoder::default().decode(&hex(block), &mut |_, _| {}).is_none();
    assert!(refused("80"), "index 0");
    assert!(refused("be"), "an entry that does not exist");
    assert!(refused("ffffffffff"), "an integer without end");
    assert!(refused("3fffff7f"), "a table of 2 MiB");
    assert!(refused("0005 61"), "a string that is cut off");
    assert!(refused("0081 00 00"), "Huffman padded with zeros");
    assert!(refused("0084 ffffffff 00"), "the end mark of Huffman");
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

const REQUEST: &str = "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff";

/// The authorities of a stream, in order.
fn authorities(stream: &[u8]) -> Vec<String> {
    let (mut requests, mut rest, mut found) = (Requests::default(), stream, Vec::new());
    while let FrameStep::Frame(length, authority) = requests.step(rest) {
        found.extend(authority.map(|authority| String::from_utf8(authority).unwrap()));
        rest = rest.get(length as usize..).unwrap_or_default();
    }
    found
}

#[test]
fn finds_the_authorities_of_requests() {
    let settings = frame(4, 0, &[0; 6]);
    let padded = [&[3][..], &hex(REQUEST), &[0; 3]].concat();
    let priority = [&[0, 0, 0, 0, 16][..], &hex("8286 84be")].concat();
    let block = hex("8286 84be");
    let stream = [
        settings,
        frame(1, 4 | 8, &padded),
        frame(0, 1, b"data"),
        frame(1, 4 | 0x20, &priority),
        frame(1, 0, &block[..2]),
        frame(9, 4, &block[2..]),
    ]
    .concat();
    assert_eq!(authorities(&stream), ["www.example.com"; 3]);
}

#[test]
fn uses_host_without_an_authority() {
    let block = [&hex("8286 84 66 0b")[..], b"app.example"].concat();
    assert_eq!(authorities(&frame(1, 4, &block)), ["app.example"]);
}

#[test]
fn reports_streams_that_cannot_be_read() {
    let mut requests = Requests::default();
    assert_eq!(requests.step(b"\0\0"), FrameStep::Needs(9));
    assert_eq!(requests.step(&frame(1, 4, &hex(REQUEST))[..12]), FrameStep::Needs(9 + 17));
    assert_eq!(requests.step(&frame(1, 4, &hex("be"))), FrameStep::Broken);
    assert_eq!(requests.step(&frame(5, 4, b"")), FrameStep::Broken, "a client does not push");
    assert_eq!(requests.step(&frame(1, 4 | 8, &[9, 1])), FrameStep::Broken, "more padding than there is");
    let long = [&[0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1][..], &[0; 20]].concat();
    assert_eq!(requests.step(&long), FrameStep::Broken);
    let mut data = frame(0, 0, b"");
    data[..3].copy_from_slice(&[0, 0x40, 0]);
    assert_eq!(requests.step(&data), FrameStep::Frame(9 + 16_384, None), "longer than the stream so far");
}

proptest! {
    #[test]
    fn never_panics(frames in prop::collection::vec((prop::sample::select(vec![0u8, 1, 1, 4, 5, 9]), any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)), 0..8)) {
        let mut requests = Requests::default();
        for (kind, flags, payload) in frames {
            requests.step(&frame(kind, flags, &payload));
            prop_assert!(requests.held() <= MAX_BLOCK + (1 << 16));
        }
    }

    #[test]
    fn huffman_is_bounded(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Some(text) = huffman::decode(&bytes) {
            prop_assert!(text.len() <= bytes.len() * 8 / 5);
        }
    }
}
