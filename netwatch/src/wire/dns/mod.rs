//! DNS messages (RFC 1035), also those of mDNS (RFC 6762) and LLMNR (RFC 4795): what was asked and what was answered. A message that is cut
//! off is read as far as it goes. Reading the format is the crate `domain`'s work; here is what netwatch wants of it.

mod numbers;
mod record;

use domain::base::Message as Raw;
use domain::base::iana::{Class, Opcode};
use domain::base::message::QuestionSection;
use domain::base::wire::ParseError;

pub use numbers::{Rcode, RecordType};
pub use record::{RecordData, ResourceRecord, ServiceBinding};

use super::{ByteReader, Name};

/// Questions and records that are kept of one message; more are counted in [`DnsMessage::left_out`].
const MAX_QUESTIONS: usize = 64;
const MAX_RECORDS: usize = 512;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsMessage {
    /// Joins an answer with its question.
    pub id: u16,
    /// An answer, or a question.
    pub is_response: bool,
    /// The server left something out: the same question over TCP gives all of it.
    pub is_truncated: bool,
    /// How it went.
    pub rcode: Rcode,
    /// What is asked; of an answer, what was.
    pub questions: Vec<Question>,
    /// The answer and additional sections, in their order.
    pub records: Vec<ResourceRecord>,
    /// Questions and records over the limits.
    pub left_out: usize,
    /// Everything that the header promises could be read.
    pub whole: bool,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// About which name.
    pub name: Name,
    /// For which records.
    pub kind: RecordType,
}

/// Reads a message. `None` if this is not one: no whole header, an opcode that does not exist, or neither a question nor a record.
pub fn parse(bytes: &[u8]) -> Option<DnsMessage> {
    let raw = Raw::from_slice(bytes).ok()?;
    let (header, counts) = (raw.header(), raw.header_counts());
    if !matches!(header.opcode(), Opcode::QUERY | Opcode::NOTIFY | Opcode::UPDATE) {
        return None;
    }
    let mut message = DnsMessage {
        id: header.id(),
        is_response: header.qr(),
        is_truncated: header.tc(),
        rcode: Rcode(header.rcode().to_int()),
        questions: Vec::new(),
        records: Vec::new(),
        left_out: 0,
        whole: true,
    };
    message.read_questions(raw);
    message.read_records(raw);
    let is_error = message.is_response && message.rcode != Rcode::NOERROR && counts.qdcount() == 0;
    (!message.questions.is_empty() || !message.records.is_empty() || is_error).then_some(message)
}

/// Is this surely a message, at whatever port? Exactly one question in the class of the Internet, and all records that the counts promise end
/// exactly where the bytes do.
pub fn is_surely(bytes: &[u8]) -> bool {
    let Ok(raw) = Raw::from_slice(bytes) else { return false };
    let in_class = |class| matches!(class, Class::IN | Class::ANY);
    let mut questions = raw.question();
    let one = questions.next().is_some_and(|question| question.is_ok_and(|question| in_class(question.qclass())));
    if !one || raw.header_counts().qdcount() != 1 || raw.header().opcode() != Opcode::QUERY {
        return false;
    }
    end(questions).is_ok_and(|end| end == bytes.len())
}

/// Where the last record ends.
fn end(questions: QuestionSection<'_, [u8]>) -> Result<usize, ParseError> {
    let mut section = questions.next_section()?;
    loop {
        section.try_for_each(|record| record.map(drop))?;
        match section.next_section()? {
            Some(next) => section = next,
            None => return Ok(section.pos()),
        }
    }
}

impl DnsMessage {
    fn read_questions(&mut self, raw: &Raw<[u8]>) {
        for question in raw.question() {
            let Ok(question) = question else { return self.whole = false };
            if self.questions.len() >= MAX_QUESTIONS {
                self.left_out += 1;
                continue;
            }
            let kind = RecordType(question.qtype().to_int());
            self.questions.push(Question { name: record::name(*question.qname()), kind });
        }
    }

    fn read_records(&mut self, raw: &Raw<[u8]>) {
        for record in raw.iter() {
            let Ok((record, section)) = record else { return self.whole = false };
            if !record::is_wanted(section) {
                continue;
            }
            if self.records.len() >= MAX_RECORDS {
                self.left_out += 1;
                continue;
            }
            self.records.push(ResourceRecord::read(&record));
        }
    }
}

/// The next message of a stream (RFC 1035 section 4.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed<'a> {
    /// A whole one, and how many bytes of the stream it took.
    Whole(&'a [u8], usize),
    /// The stream must be this long, and what there is of the message.
    Partial(usize, &'a [u8]),
}

/// Takes one message off the start of a TCP stream. Not even a header can be shorter than 12 bytes: then it is no DNS.
pub fn framed(stream: &[u8]) -> Option<Framed<'_>> {
    const LENGTH: usize = 2;
    const HEADER: usize = 12;
    let mut reader = ByteReader::new(stream);
    let Some(length) = reader.u16().map(usize::from) else { return Some(Framed::Partial(LENGTH + HEADER, &[])) };
    let end = LENGTH + length;
    match reader.take(length) {
        _ if length < HEADER => None,
        Some(message) => Some(Framed::Whole(message, end)),
        None => Some(Framed::Partial(end, reader.rest())),
    }
}

#[cfg(test)]
mod tests;
