//! The Huffman code of HPACK (RFC 7541 appendix B). It is canonical, so the lengths of the codes
//! determine it.

const SYMBOLS: usize = 257;
const END: u16 = 256;
const MAX_LENGTH: usize = 30;

/// Length of each symbol's code, bits.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The code table. Codes of one length are consecutive numbers.
struct Code {
    /// For each length: the first code, and the index of its symbol in `symbols`.
    first: [u32; MAX_LENGTH + 1],
    index: [u16; MAX_LENGTH + 2],
    /// Ordered by length, then by value.
    symbols: [u16; SYMBOLS],
}

const CODE: Code = code();

const fn code() -> Code {
    let mut code = Code { first: [0; MAX_LENGTH + 1], index: [0; MAX_LENGTH + 2], symbols: [0; SYMBOLS] };
    let (mut length, mut next, mut index) = (1, 0u32, 0u16);
    while length <= MAX_LENGTH {
        next <<= 1;
        code.first[length] = next;
        code.index[length] = index;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                code.symbols[index as usize] = symbol as u16;
                index += 1;
                next += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    code.index[MAX_LENGTH + 1] = index;
    // The code is complete: every bit string begins with exactly one code.
    assert!(next == 1 << MAX_LENGTH);
    code
}

/// Decodes a string; `None` if it is not valid.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    // The shortest code has five bits.
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut bits, mut length) = (0u32, 0);
    for byte in bytes {
        for shift in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> shift & 1);
            length += 1;
            if let Some(symbol) = symbol(bits, length) {
                text.push(u8::try_from(symbol).ok()?);
                (bits, length) = (0, 0);
            }
        }
    }
    // The remaining bits are the beginning of the end-of-string code, which is all ones (section
    // 5.2).
    (length < 8 && bits == (1 << length) - 1).then_some(text)
}

fn symbol(bits: u32, length: usize) -> Option<u16> {
    let count = u32::from(CODE.index.get(length + 1)? - CODE.index[length]);
    let place = bits.checked_sub(CODE.first[length]).filter(|place| *place < count)?;
    Some(CODE.symbols[usize::from(CODE.index[length]) + place as usize])
}

const _: () = assert!(LENGTHS[END as usize] as usize == MAX_LENGTH);
