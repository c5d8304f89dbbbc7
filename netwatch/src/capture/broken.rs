//! Why a capture cannot be read on, and where.

use std::fmt;
use std::io;

use pcap_parser::PcapError;

use super::{MAX_BLOCK, MAX_FRAME};
use crate::error::Error;

/// The place at which a capture cannot be read any more, and why. What lies before it has been read.
#[derive(Debug)]
pub struct Broken {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// What is wrong there.
    pub cause: String,
    /// File, place and cause.
    pub error: Error,
}

impl Broken {
    pub(super) fn new(name: &str, offset: u64, cause: BrokenCause) -> Self {
        let object = format!("{name} at byte {offset}");
        let said = cause.to_string();
        let error = match cause {
            BrokenCause::Read(error) => Error::os("read", object, error),
            _ => Error::other("read", object, said.clone()),
        };
        Self { offset, cause: said, error: error.hint("everything before that is in the report") }
    }
}

/// What is wrong with a record or block, or with reading it.
#[derive(Debug)]
pub(super) enum BrokenCause {
    /// A system call failed.
    Read(io::Error),
    /// The file ended inside. `claimed` is how long the record or block would have been, as far as that is known.
    Ended { there: u64, claimed: Option<u64> },
    /// A frame that claims to be longer than any.
    Frame(u32),
    /// A block that claims to be longer than any, or shorter than its own header, or no multiple of four bytes.
    Block(u32),
    /// Parts of it claim more than the whole has.
    Contradiction,
    /// A packet of an interface that was not described.
    Interface(u32),
    /// More interfaces than packets can name.
    Interfaces,
    /// A section header in neither byte order.
    ByteOrder,
    /// It was asked to stop.
    Stopped,
}

impl fmt::Display for BrokenCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::Ended { there, claimed: None } => {
                write!(f, "the file ends there, {there} bytes into a header")
            }
            Self::Ended { there, claimed: Some(claimed) } => {
                write!(f, "the file ends {there} bytes into a record of {claimed}")
            }
            Self::Frame(length) => {
                write!(f, "corrupt: a frame that claims {length} bytes, where {MAX_FRAME} are the most")
            }
            Self::Block(length) => {
                write!(f, "corrupt: a block that claims {length} bytes, where 12 to {MAX_BLOCK} are possible")
            }
            Self::Contradiction => f.write_str("corrupt: a block whose parts are longer than itself"),
            Self::Interface(number) => {
                write!(f, "corrupt: a packet of interface {number}, which the file does not have")
            }
            Self::Interfaces => f.write_str("more than 65,536 interfaces"),
            Self::ByteOrder => f.write_str("corrupt: a section header in no known byte order"),
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

/// What is said of a file that does not even begin as a capture.
pub(super) fn not_a_capture(name: &str, head: [u8; 4], cause: &PcapError<&[u8]>) -> Error {
    let wrong = |what: &str| Error::other("read", name, what);
    match (head, cause) {
        ([0x1f, 0x8b, ..], _) => wrong("it is compressed").hint(format!("try `zcat {name} | netwatch replay -`")),
        ([0x28, 0xb5, 0x2f, 0xfd], _) => {
            wrong("it is compressed").hint(format!("try `zstdcat {name} | netwatch replay -`"))
        }
        ([0xfd, b'7', b'z', b'X'], _) => {
            wrong("it is compressed").hint(format!("try `xzcat {name} | netwatch replay -`"))
        }
        (_, PcapError::Eof | PcapError::Incomplete(_) | PcapError::UnexpectedEof) => {
            wrong("it is too short to be a capture")
        }
        _ => wrong("it is neither pcap nor pcapng"),
    }
}
