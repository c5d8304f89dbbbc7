//! Hand-made capture files, complete and broken.

use std::io;
use std::sync::atomic::AtomicBool;

use netwatch_common::parse::LinkType;
use proptest::prelude::*;

use super::{Capture, CaptureEnd, CaptureFormat};

static NOT_STOPPED: AtomicBool = AtomicBool::new(false);

/// Writes numbers in the byte order of the file.
#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

use Order::{Big, Little};

impl Order {
    fn half(self, number: u16) -> [u8; 2] {
        match self {
            Little => number.to_le_bytes(),
            Big => number.to_be_bytes(),
        }
    }

    fn word(self, number: u32) -> [u8; 4] {
        match self {
            Little => number.to_le_bytes(),
            Big => number.to_be_bytes(),
        }
    }

    fn words(self, numbers: &[u32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| self.word(*number)).collect()
    }
}

fn pcap(order: Order, magic: u32, link: u32, records: &[&[u8]]) -> Vec<u8> {
    let version = [order.half(2), order.half(4)].concat();
    [&order.word(magic)[..], &version, &order.words(&[0, 0, 65_535, link]), &records.concat()].concat()
}

fn record(order: Order, seconds: u32, fraction: u32, orig_len: u32, bytes: &[u8]) -> Vec<u8> {
    [&order.words(&[seconds, fraction, bytes.len() as u32, orig_len])[..], bytes].concat()
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    let length = order.word((12 + body.len() + padding.len()) as u32);
    [&order.word(kind), &length, body, &padding, &length].concat()
}

fn section(order: Order) -> Vec<u8> {
    let version = [order.half(1), order.half(0)].concat();
    block(order, 0x0a0d_0d0a, &[&order.word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat())
}

fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let padding = vec![0; value.len().next_multiple_of(4) - value.len()];
    [&order.half(code), &order.half(value.len() as u16), value, &padding].concat()
}

fn interface(order: Order, link: u16, snaplen: u32, options: &[Vec<u8>]) -> Vec<u8> {
    let options = if options.is_empty() { vec![] } else { [&options.concat()[..], &option(order, 0, &[])].concat() };
    block(order, 1, &[&order.half(link), &[0, 0][..], &order.word(snaplen), &options].concat())
}

fn enhanced(order: Order, interface: u32, time: u64, orig_len: u32, bytes: &[u8]) -> Vec<u8> {
    let head = order.words(&[interface, (time >> 32) as u32, time as u32, bytes.len() as u32, orig_len]);
    block(order, 6, &[&head[..], bytes].concat())
}

fn simple(order: Order, orig_len: u32, bytes: &[u8]) -> Vec<u8> {
    block(order, 3, &[&order.word(orig_len)[..], bytes].concat())
}

fn obsolete(order: Order, interface: u16, time: u64, orig_len: u32, bytes: &[u8]) -> Vec<u8> {
    let numbers = order.words(&[(time >> 32) as u32, time as u32, bytes.len() as u32, orig_len]);
    block(order, 2, &[&order.half(interface)[..], &order.half(3), &numbers, bytes].concat())
}

/// Time, bytes, length on the wire, link type.
type Read = (u64, Vec<u8>, u32, LinkType);

fn read_from(input: impl io::Read + 'static) -> (Vec<Read>, Result<CaptureEnd, String>) {
    let mut frames = Vec::new();
    let end = Capture::new("test", input, None, &NOT_STOPPED).and_then(|mut capture| {
        capture.each(|frame| {
            frames.push((frame.time_ns, frame.bytes.to_vec(), frame.orig_len, frame.link));
            Ok(())
        })
    });
    (frames, end.map_err(|error| error.to_string()))
}

fn read(bytes: &[u8]) -> (Vec<Read>, Result<CaptureEnd, String>) {
    read_from(io::Cursor::new(bytes.to_vec()))
}

#[track_caller]
fn whole(bytes: &[u8]) -> Vec<Read> {
    let (frames, end) = read(bytes);
    assert!(matches!(end, Ok(CaptureEnd::Whole)), "{end:?}");
    frames
}

#[track_caller]
fn broken(bytes: &[u8]) -> (usize, u64, String) {
    let (frames, end) = read(bytes);
    let Ok(CaptureEnd::Broken(broken)) = end else { panic!("{end:?}") };
    (frames.len(), broken.offset, broken.error.to_string())
}

#[test]
fn reads_pcap_in_both_byte_orders_and_resolutions() {
    const MICROSECONDS: u32 = 0xa1b2_c3d4;
    const NANOSECONDS: u32 = 0xa1b2_3c4d;
    for order in [Little, Big] {
        for (magic, unit) in [(MICROSECONDS, 1000), (NANOSECONDS, 1)] {
            // The upper half of the link type contains the length of a checksum.
            let records = [record(order, 7, 5, 100, &[1, 2, 3]), record(order, 8, 0, 2, &[4, 5])];
            let frames = whole(&pcap(order, magic, 0x4000_0071, &[&records[0], &records[1]]));
            let expected = [
                (7_000_000_000 + 5 * unit, vec![1, 2, 3], 100, LinkType::Cooked),
                (8_000_000_000, vec![4, 5], 2, LinkType::Cooked),
            ];
            assert_eq!(frames, expected);
        }
    }
}

#[test]
fn each_pcapng_interface_has_its_own_link_type_and_resolution() {
    for order in [Little, Big] {
        let offset = match order {
            Little => 3600_i64.to_le_bytes(),
            Big => 3600_i64.to_be_bytes(),
        };
        let file = [
            section(order),
            interface(order, 1, 0, &[]),
            block(order, 0x0bad, &[1, 2, 3]),
            interface(order, 101, 0, &[option(order, 2, b"eth0"), option(order, 9, &[9])]),
            interface(order, 276, 0, &[option(order, 9, &[0x80 | 10]), option(order, 14, &offset)]),
            enhanced(order, 1, 1_500_000_000, 3, &[1, 2, 3]),
            enhanced(order, 0, 1_500_000, 60, &[4]),
            enhanced(order, 2, 1536, 2, &[5, 6]),
            obsolete(order, 1, 5_000_000_000_000, 9, &[7]),
        ];
        let expected = [
            (1_500_000_000, vec![1, 2, 3], 3, LinkType::Ip),
            (1_500_000_000, vec![4], 60, LinkType::Ethernet),
            (3_601_500_000_000, vec![5, 6], 2, LinkType::Cooked2),
            (5_000_000_000_000, vec![7], 9, LinkType::Ip),
        ];
        assert_eq!(whole(&file.concat()), expected);
    }
}

#[test]
fn simple_packets_have_the_first_interface_and_the_previous_time() {
    let file = [
        section(Little),
        interface(Little, 1, 4, &[]),
        enhanced(Little, 0, 7, 4, &[1, 2, 3, 4]),
        simple(Little, 9, &[1, 2, 3, 4]),
        simple(Little, 3, &[5, 6, 7]),
    ];
    let frames = whole(&file.concat());
    assert_eq!(frames[1], (7_000, vec![1, 2, 3, 4], 9, LinkType::Ethernet), "cut to the interface's length");
    assert_eq!(frames[2], (7_000, vec![5, 6, 7], 3, LinkType::Ethernet), "without its padding");
}

#[test]
fn a_section_resets_the_interfaces() {
    let first = [section(Little), interface(Little, 1, 0, &[]), enhanced(Little, 0, 1, 1, &[1])].concat();
    let second = [section(Big), interface(Big, 101, 0, &[]), enhanced(Big, 0, 2, 1, &[2])].concat();
    let links: Vec<LinkType> = whole(&[&first[..], &second].concat()).into_iter().map(|frame| frame.3).collect();
    assert_eq!(links, [LinkType::Ethernet, LinkType::Ip]);
    let without = [&first[..], &section(Big), &enhanced(Big, 0, 2, 1, &[2])].concat();
    let (frames, offset, error) = broken(&without);
    assert_eq!((frames, offset), (1, (first.len() + section(Big).len()) as u64));
    assert!(error.contains("interface 0, which is not described"), "{error}");
}

#[test]
fn reads_frames_of_unknown_link_types() {
    let file = pcap(Little, 0xa1b2_c3d4, 105, &[&record(Little, 0, 0, 1, &[1])]);
    assert_eq!(whole(&file), [(0, vec![1], 1, LinkType::Other)]);
}

/// A file that is cut off anywhere returns the frames before that, and the offset.
#[test]
fn reports_where_a_file_is_cut_off() {
    let records = [record(Little, 1, 0, 3, &[1, 2, 3]), record(Little, 2, 0, 40, &[4; 40])];
    let legacy = pcap(Little, 0xa1b2_c3d4, 1, &[&records[0], &records[1]]);
    let blocks = [
        [section(Big), interface(Big, 1, 0, &[])].concat(),
        enhanced(Big, 0, 1, 3, &[1, 2, 3]),
        enhanced(Big, 0, 2, 40, &[4; 40]),
    ];
    let starts_of = |first: usize, second: usize| [first, first + second];
    let cases =
        [(legacy, starts_of(24, records[0].len())), (blocks.concat(), starts_of(blocks[0].len(), blocks[1].len()))];
    for (file, [first, second]) in cases {
        for length in first..file.len() {
            let (frames, end) = read(&file[..length]);
            let expected = usize::from(length >= second);
            assert_eq!(frames.len(), expected, "{length} bytes");
            match end.expect("a capture") {
                CaptureEnd::Whole => assert!(length == first || length == second, "{length} bytes are not whole"),
                CaptureEnd::Broken(broken) => {
                    assert_eq!(broken.offset, if length > second { second } else { first } as u64);
                    assert!(broken.cause.starts_with("the file ends"), "{}", broken.cause);
                }
                CaptureEnd::Stopped { .. } => panic!("not stopped"),
            }
        }
        for length in 0..20.min(first) {
            let (_, end) = read(&file[..length]);
            let error = end.expect_err("not a capture");
            assert!(error.contains("too short to be a capture"), "{length} bytes: {error}");
        }
    }
}

#[test]
fn reports_corrupt_lengths_with_their_offset() {
    let start = [section(Little), interface(Little, 1, 0, &[])].concat();
    let at = start.len() as u64;
    let ng = |rest: &[u8]| [&start[..], rest, &[0; 64]].concat();
    let with_length = |length: u32| [&Little.words(&[6, length])[..], &[0; 32]].concat();
    let contradictory = block(Little, 6, &[&Little.words(&[0, 0, 0, 400, 400])[..], &[0; 8]].concat());
    let legacy = |length: u32| pcap(Little, 0xa1b2_c3d4, 1, &[&Little.words(&[0, 0, length, 60]), &[0; 300_000]]);
    let table: [(Vec<u8>, u64, &str); 8] = [
        (legacy(4_000_000_000), 24, "a frame of 4000000000 bytes"),
        (legacy(262_145), 24, "a frame of 262145 bytes"),
        (ng(&with_length(0)), at, "a block of 0 bytes"),
        (ng(&with_length(33)), at, "a block of 33 bytes"),
        (ng(&with_length(0x4000_0000)), at, "a block of 1073741824 bytes"),
        (ng(&contradictory), at, "parts longer than itself"),
        (ng(&enhanced(Little, 1, 0, 1, &[1])), at, "interface 1, which"),
        (ng(&block(Little, 0x0a0d_0d0a, &[9; 16])), at, "without a valid byte order"),
    ];
    for (file, offset, words) in table {
        let (frames, found, error) = broken(&file);
        assert_eq!((frames, found), (0, offset), "{error}");
        assert!(error.contains(words) && error.contains(&format!("test at byte {offset}")), "{error}");
    }
}

#[test]
fn reads_long_blocks_in_bounded_memory() {
    let file = |length: usize| {
        let blocks = [section(Little), interface(Little, 1, 0, &[]), block(Little, 0x0bad, &vec![7; length])];
        [&blocks.concat()[..], &enhanced(Little, 0, 1, 1, &[1])].concat()
    };
    assert_eq!(whole(&file(5 << 20)).len(), 1);
    assert_eq!(whole(&file((16 << 20) - 12)).len(), 1, "the maximum length");
    let (frames, offset, error) = broken(&file(16 << 20));
    assert_eq!((frames, offset), (0, 48));
    assert!(error.contains("a block of 16777228 bytes"), "{error}");
}

/// Returns one byte per read, then fails.
struct Slow {
    bytes: io::Cursor<Vec<u8>>,
    then: Option<io::ErrorKind>,
}

impl io::Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        match (self.bytes.read(&mut buffer[..length])?, self.then) {
            (0, Some(kind)) => Err(kind.into()),
            (length, _) => Ok(length),
        }
    }
}

#[test]
fn reads_a_slow_source_and_reports_a_failing_one() {
    let records = [record(Big, 1, 0, 3, &[1, 2, 3]), record(Big, 2, 0, 1, &[4])];
    let file = pcap(Big, 0xa1b2_c3d4, 1, &[&records[0], &records[1]]);
    let slow = |length: usize, then| Slow { bytes: io::Cursor::new(file[..length].to_vec()), then };
    assert_eq!(read_from(slow(file.len(), None)).0, whole(&file));
    for (length, frames) in [(file.len(), 2), (file.len() - 1, 1), (24 + records[0].len(), 1)] {
        let (read, end) = read_from(slow(length, Some(io::ErrorKind::ConnectionReset)));
        let Ok(CaptureEnd::Broken(broken)) = end else { panic!("{end:?}") };
        assert_eq!(read.len(), frames);
        assert!(broken.error.to_string().contains("connection reset"), "{}", broken.error);
    }
    let (_, end) = read_from(slow(3, Some(io::ErrorKind::ConnectionReset)));
    assert!(end.expect_err("not a capture").contains("connection reset"));
}

#[test]
fn refuses_other_files_with_a_hint() {
    let table: [(&[u8], &str); 3] = [
        (b"", "too short"),
        (b"root:x:0:0:root:/root:/bin/bash\n", "neither pcap nor pcapng"),
        (&[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0], "neither pcap nor pcapng"),
    ];
    for (bytes, words) in table {
        let error = Capture::new("test", bytes, None, &NOT_STOPPED).expect_err("not a capture").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn stops_when_the_flag_is_set() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let one = record(Little, 1, 0, 1, &[1]);
    let file = pcap(Little, 0xa1b2_c3d4, 1, &[&one, &one, &one]);
    let mut capture = Capture::new("test", io::Cursor::new(file), None, &STOP).expect("a capture");
    assert_eq!(capture.format(), CaptureFormat::Pcap);
    let mut frames = 0;
    let end = capture.each(|_| {
        frames += 1;
        STOP.store(frames == 2, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    assert!(matches!(end, Ok(CaptureEnd::Stopped { offset: 58 })), "{end:?}");
    assert_eq!(frames, 2);
}

fn sample(kind: bool) -> Vec<u8> {
    if kind {
        let packets = [record(Little, 1, 0, 40, &[1; 30]), record(Little, 2, 0, 20, &[2; 20])];
        return pcap(Little, 0xa1b2_c3d4, 1, &[&packets[0], &packets[1]]);
    }
    let blocks = [
        section(Little),
        interface(Little, 1, 0, &[option(Little, 9, &[9])]),
        enhanced(Little, 0, 1, 40, &[1; 30]),
        simple(Little, 20, &[2; 20]),
        obsolete(Little, 0, 3, 8, &[3; 8]),
    ];
    blocks.concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every file is read to an end, and what is read is part of it.
    #[test]
    fn reads_every_broken_file_to_an_end(
        kind: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = sample(kind);
        changes.iter().for_each(|(index, byte)| *index.get_mut(&mut file) = *byte);
        file.truncate(cut.index(file.len()) + 1);
        let (frames, end) = read(&file);
        let taken: usize = frames.iter().map(|(_, bytes, ..)| bytes.len()).sum();
        prop_assert!(taken <= file.len());
        if let Ok(CaptureEnd::Broken(broken)) = end {
            prop_assert!(broken.offset <= file.len() as u64);
        }
    }
}

/// Both formats that `-w` writes are read.
#[test]
fn compressed_captures_are_decompressed() {
    use std::io::Write;
    let plain = pcap_of(&[&[1, 2, 3], &[4, 5]]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("compressed");
    let gzip = gzip.finish().expect("compressed");
    let zstd = zstd::encode_all(&plain[..], 0).expect("compressed");
    for (name, bytes) in [("gzip", gzip), ("zstd", zstd)] {
        let mut capture = Capture::new(name, io::Cursor::new(bytes), Some(1), &NOT_STOPPED).expect("a capture");
        let mut lengths = Vec::new();
        let end = capture.each(|frame| {
            lengths.push(frame.bytes.len());
            Ok(())
        });
        assert!(matches!(end, Ok(CaptureEnd::Whole)), "{name}: {end:?}");
        assert_eq!((lengths, capture.size()), (vec![3, 2], None), "{name}");
    }
}

/// A pcap file with these frames.
fn pcap_of(frames: &[&[u8]]) -> Vec<u8> {
    let mut pcap = super::write::PcapWriter::default();
    pcap.header(0, super::write::ETHERNET);
    for (time_ns, frame) in (0..).zip(frames) {
        pcap.packet(&super::write::WritablePacket {
            time_ns,
            interface: 0,
            flags: None,
            orig_len: frame.len() as u32,
            parts: [frame, &[]],
            comments: &[],
            pid: None,
            lost_before: 0,
            encoded: None,
        });
    }
    pcap.buffer
}
