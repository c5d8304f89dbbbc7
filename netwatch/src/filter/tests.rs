//! Tests of the parts of filters that need neither libpcap nor a kernel.

use super::{ClassicInstruction, FilterProgram, FilteredFrame, MAX_INSTRUCTIONS, PacketAccess, translate};

/// `tcp port 80`, by `tcpdump -ddd`.
const TCP_PORT_80: &str = "20
40 0 0 12
21 0 6 34525
48 0 0 20
21 0 15 6
40 0 0 54
21 12 0 80
40 0 0 56
21 10 11 80
21 0 10 2048
48 0 0 23
21 0 8 6
40 0 0 20
69 6 0 8191
177 0 0 14
72 0 0 14
21 2 0 80
72 0 0 16
21 0 1 80
6 0 0 262144
6 0 0 0
";

fn program(text: &str) -> FilterProgram {
    text.parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A filter that executes these instructions and returns A.
fn computing(instructions: &[&str]) -> FilterProgram {
    program(&format!("{}\n{}\n22 0 0 0", instructions.len() + 1, instructions.join("\n")))
}

fn run(program: &FilterProgram, bytes: &[u8]) -> u32 {
    program.run(&FilteredFrame { bytes, length: 1000, is_egress: Some(true) })
}

fn frame(port: u16) -> Vec<u8> {
    let mut frame = vec![0; 54];
    (frame[12], frame[14], frame[23]) = (8, 0x45, 6);
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame
}

#[test]
fn a_filter_accepts_the_packets_that_match() {
    let program = program(TCP_PORT_80);
    assert_eq!([80, 81].map(|port| run(&program, &frame(port))), [262_144, 0]);
    assert_eq!(run(&program, &frame(80)[..37]), 0, "a load beyond the end rejects the packet");
    let filtered = FilteredFrame { bytes: &frame(80), length: 54, is_egress: None };
    assert!(program.matches(&filtered));
}

#[test]
fn text_and_json_keep_every_instruction() {
    let program = program(TCP_PORT_80);
    assert_eq!(program.to_string(), TCP_PORT_80.trim_end());
    let json = serde_json::to_string(&program).expect("a string");
    assert_eq!(serde_json::from_str::<FilterProgram>(&json).expect("valid"), program);
    assert!(serde_json::from_str::<FilterProgram>("\"1\\n40 0 0 0\"").is_err(), "checked where it is received");
}

#[test]
fn arithmetic_has_no_sign_and_wraps_around() {
    for (instructions, expected) in [
        (&["0 0 0 5", "20 0 0 7"][..], (5_u32).wrapping_sub(7)),
        (&["0 0 0 4294967295", "4 0 0 2"], 1),
        (&["0 0 0 65536", "36 0 0 65537"], 65_536),
        (&["0 0 0 4294967295", "52 0 0 2"], 0x7fff_ffff),
        (&["0 0 0 17", "148 0 0 5"], 2),
        (&["0 0 0 12", "68 0 0 3"], 15),
        (&["0 0 0 12", "84 0 0 6"], 4),
        (&["0 0 0 12", "164 0 0 6"], 10),
        (&["0 0 0 3", "100 0 0 31"], 1 << 31),
        (&["0 0 0 3", "100 0 0 32"], 0),
        (&["0 0 0 4294967295", "116 0 0 28"], 15),
        (&["0 0 0 1", "132 0 0 0"], u32::MAX),
        // With the index: 7 / 0 and 7 % 0 reject, 7 << 40 is 0.
        (&["0 0 0 7", "60 0 0 0"], 0),
        (&["0 0 0 7", "156 0 0 0"], 0),
        (&["1 0 0 40", "0 0 0 7", "108 0 0 0"], 0),
        (&["1 0 0 2", "0 0 0 7", "108 0 0 0"], 28),
        // Memory, and the moves between both registers.
        (&["0 0 0 9", "2 0 0 15", "0 0 0 1", "97 0 0 15", "135 0 0 0"], 9),
        (&["96 0 0 3"], 0),
        (&["0 0 0 8", "7 0 0 0", "3 0 0 1", "96 0 0 1"], 8),
        (&["128 0 0 0"], 1000),
    ] {
        assert_eq!(run(&computing(instructions), &[]), expected, "{instructions:?}");
    }
}

#[test]
fn loads_take_the_bytes_in_network_order_and_never_wrap_around() {
    let bytes = [0x45, 1, 2, 3, 4];
    for (instructions, expected) in [
        (&["32 0 0 1"][..], 0x0102_0304),
        (&["32 0 0 2"], 0),
        (&["40 0 0 3"], 0x0304),
        (&["48 0 0 4"], 4),
        (&["48 0 0 5"], 0),
        (&["177 0 0 0", "135 0 0 0"], 20),
        (&["1 0 0 2", "80 0 0 1"], 3),
        (&["1 0 0 4294967295", "80 0 0 2"], 0),
        (&["1 0 0 1", "64 0 0 4294967295"], 0),
        // The type of the packet, and that it has no tag outside the frame.
        (&["32 0 0 4294963204"], 4),
        (&["0 0 0 9", "32 0 0 4294963248"], 0),
    ] {
        assert_eq!(run(&computing(instructions), &bytes), expected, "{instructions:?}");
    }
}

#[test]
fn a_loop_ends() {
    let endless = program("2\n5 0 0 4294967295\n6 0 0 1");
    for length in [0, 60, 262_144] {
        assert_eq!(run(&endless, &vec![0; length]), 0);
    }
    // A + 1 until A > 4: four jumps back, for which the packet needs 32 bytes.
    let counting = program("4\n4 0 0 1\n37 1 0 4\n5 0 0 4294967293\n6 0 0 1");
    assert_eq!([31, 32].map(|length| run(&counting, &vec![0; length])), [0, 1]);
    let error = translate(&endless, PacketAccess::Direct).expect_err("the verifier would refuse it");
    assert!(error.contains("loop"), "{error}");
}

#[test]
fn wrong_instructions_are_refused() {
    for (text, expected) in [
        ("", "not the number of instructions"),
        ("0", "no instructions"),
        ("2\n6 0 0 0", "the number of instructions is 2, and 1 follow"),
        ("1\n6 0 0", "line 2 is not `CODE JT JF K`"),
        ("1\n6 0 0 0 0", "line 2 is not"),
        ("1\n6 0 0 4294967296", "line 2 is not"),
        ("1\n40 0 0 0", "does not return"),
        ("2\n21 0 1 0\n6 0 0 0", "instruction 0 jumps to"),
        ("2\n5 0 0 1\n6 0 0 0", "instruction 0 jumps to"),
        ("2\n5 0 0 4294967294\n6 0 0 0", "instruction 0 jumps to"),
        ("2\n52 0 0 0\n6 0 0 0", "divides by 0"),
        ("2\n2 0 0 16\n6 0 0 0", "uses word 16"),
        ("2\n255 0 0 0\n6 0 0 0", "unknown code"),
        ("2\n32 0 0 4294963208\n6 0 0 0", "fact of the kernel (number 8)"),
    ] {
        let error = text.parse::<FilterProgram>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let end = ClassicInstruction { code: 6, jt: 0, jf: 0, k: 0 };
    assert!(FilterProgram::new(vec![end; MAX_INSTRUCTIONS]).is_ok());
    assert!(FilterProgram::new(vec![end; MAX_INSTRUCTIONS + 1]).is_err());
}

#[test]
fn unreachable_instructions_are_not_translated_and_long_jumps_are_refused() {
    let length = |text: &str| translate(&program(text), PacketAccess::Direct).expect("translated").len();
    let return_only = length("1\n6 0 0 0");
    assert_eq!(length("3\n6 0 0 0\n40 0 0 0\n6 0 0 0"), return_only);
    assert!(length(TCP_PORT_80) > return_only + 40);
    let loads = "40 0 0 12\n".repeat(4000);
    let far = program(&format!("4003\n21 0 1 1\n5 0 0 4000\n{loads}6 0 0 1"));
    let error = translate(&far, PacketAccess::Direct).expect_err("a jump over 4,000 loads");
    assert!(error.contains("longer than eBPF permits"), "{error}");
}
