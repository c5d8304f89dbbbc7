//! The bytes of a packet after its line, as tcpdump prints them.

use std::fmt::Write as _;

use super::style::{DumpColumns, DumpStyle};

/// Bytes on a line.
const ROW_BYTES: usize = 16;
/// Width of the hexadecimal digits of a full line.
const HEX_WIDTH: usize = 40;

/// Appends the bytes, each line after a line feed and a tab: the payload has line feeds of its own,
/// and may not imitate the line of another packet. `network` is the offset of the network header.
pub(super) fn push(text: &mut String, style: DumpStyle, frame: &[u8], network: usize) {
    let start = if style.includes_link { 0 } else { network.min(frame.len()) };
    let bytes = &frame[start..];
    if style.columns == DumpColumns::Text {
        text.push_str("\n\t");
        return bytes.iter().for_each(|byte| match byte {
            b'\n' => text.push_str("\n\t"),
            b' ' | b'\t' => text.push((*byte).into()),
            other => text.push(printable(*other)),
        });
    }
    for (row, bytes) in bytes.chunks(ROW_BYTES).enumerate() {
        let mut hex = String::with_capacity(HEX_WIDTH);
        for pair in bytes.chunks(2) {
            pair.iter().for_each(|byte| _ = write!(hex, "{byte:02x}"));
            hex.push(' ');
        }
        _ = write!(text, "\n\t0x{:04x}:  ", row * ROW_BYTES);
        if style.columns == DumpColumns::HexAndText {
            _ = write!(text, "{hex:HEX_WIDTH$} ");
            text.extend(bytes.iter().map(|byte| printable(*byte)));
        } else {
            text.push_str(hex.trim_end());
        }
    }
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() { byte.into() } else { '.' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_printed_in_the_requested_columns() {
        let dump = |columns, includes_link| {
            let mut text = String::new();
            push(&mut text, DumpStyle { columns, includes_link }, b"link01234 6789abcdef\x1bg\n", 4);
            text
        };
        assert_eq!(
            dump(DumpColumns::HexAndText, false),
            "\n\t0x0000:  3031 3233 3420 3637 3839 6162 6364 6566  01234.6789abcdef\n\t0x0010:  1b67 0a                                  .g."
        );
        assert_eq!(
            dump(DumpColumns::Hex, true),
            "\n\t0x0000:  6c69 6e6b 3031 3233 3420 3637 3839 6162\n\t0x0010:  6364 6566 1b67 0a"
        );
        assert_eq!(dump(DumpColumns::Text, false), "\n\t01234 6789abcdef.g\n\t");
    }
}
