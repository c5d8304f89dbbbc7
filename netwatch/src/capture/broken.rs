//! Where and why a capture cannot be read further.

use std::fmt;
use std::io;

use pcap_parser::PcapError;

use super::{MAX_BLOCK, MAX_FRAME, MAX_INTERFACE_TEXT, MAX_INTERFACES};
use crate::error::Error;

/// The record or block at which a capture cannot be read further. Everything before it has been
/// read.
#[derive(Debug)]
pub struct Broken {
    /// Offset in the file, bytes.
    pub offset: u64,
    /// The cause, as text.
    pub cause: String,
    /// The capture ends inside the record or block.
    pub is_cut: bool,
    /// The error for the user, with file, offset and cause.
    pub error: Error,
}

impl Broken {
    pub(super) fn new(name: &str, offset: u64, cause: BrokenCause) -> Self {
        let object = format!("{name} at byte {offset}");
        let text = cause.to_string();
        let is_cut = matches!(cause, BrokenCause::Ended { .. });
        let error = match cause {
            BrokenCause::Read(error) => Error::os("read", object, error),
            _ => Error::other("read", object, text.clone()),
        };
        Self { offset, cause: text, is_cut, error: error.hint("the report covers everything before that") }
    }
}

/// Why a record or block cannot be read.
#[derive(Debug)]
pub(super) enum BrokenCause {
    /// A system call failed.
    Read(io::Error),
    /// The file ends inside the record or block. `there` is the number of its bytes that are
    /// present, `stated_length` the length in its header, if the header is complete.
    Ended { there: u64, stated_length: Option<u64> },
    /// A frame with a length over the maximum.
    Frame(u32),
    /// A block with a length greater than the maximum, less than its own header, or not a multiple
    /// of four.
    Block(u32),
    /// Its parts are longer than the whole.
    Contradiction,
    /// A packet of an interface that was not described.
    Interface(u32),
    /// More interfaces in a section than packets can refer to, or too many in the file.
    Interfaces,
    /// The texts of the interfaces of the file are longer than any that was captured.
    InterfaceTexts,
    /// More secrets between two packets than a capture has.
    Secrets,
    /// A section header without a valid byte order.
    ByteOrder,
    /// Reading was stopped.
    Stopped,
}

fn bytes(number: u64) -> &'static str {
    if number == 1 { "byte" } else { "bytes" }
}

impl fmt::Display for BrokenCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::Ended { there, stated_length: None } => {
                write!(f, "the file ends {there} {} into a header", bytes(*there))
            }
            Self::Ended { there, stated_length: Some(stated_length) } => {
                write!(f, "the file ends {there} {} into a record of {stated_length}", bytes(*there))
            }
            Self::Frame(length) => {
                write!(f, "corrupt: a frame of {length} bytes (maximum {MAX_FRAME})")
            }
            Self::Block(length) => {
                write!(
                    f,
                    "corrupt: a block of {length} {} (minimum 12, maximum {MAX_BLOCK}, multiple of 4)",
                    bytes((*length).into())
                )
            }
            Self::Contradiction => f.write_str("corrupt: a block with parts longer than itself"),
            Self::Interface(number) => {
                write!(f, "corrupt: a packet of interface {number}, which is not described")
            }
            Self::Interfaces => write!(f, "more than 65,536 interfaces in a section, or {MAX_INTERFACES} in the file"),
            Self::InterfaceTexts => write!(f, "corrupt: interfaces with more than {MAX_INTERFACE_TEXT} bytes of text"),
            Self::Secrets => write!(f, "corrupt: more than {MAX_BLOCK} bytes of secrets between two packets"),
            Self::ByteOrder => f.write_str("corrupt: a section header without a valid byte order"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// The error for a file that does not begin as a capture.
pub(super) fn not_a_capture(name: &str, head: [u8; 4], cause: &PcapError<&[u8]>) -> Error {
    let wrong = |what: &str| Error::other("read", name, what);
    match (head, cause) {
        ([0xfd, b'7', b'z', b'X'], _) => {
            wrong("the file is compressed").hint(format!("try `xzcat {name} | netwatch replay -`"))
        }
        (_, PcapError::Eof | PcapError::Incomplete(_) | PcapError::UnexpectedEof) => {
            wrong("the file is too short to be a capture")
        }
        _ => wrong("the format is neither pcap nor pcapng"),
    }
}
