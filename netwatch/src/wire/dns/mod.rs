//! DNS messages (RFC 1035), including those of mDNS (RFC 6762) and LLMNR (RFC 4795): questions and
//! records. A message that is cut off is parsed up to its last byte. The crate `domain` parses the
//! format; this module selects what netwatch uses.

mod numbers;
mod record;

use domain::base::Message as Raw;
use domain::base::iana::{Class, Opcode};
use domain::base::message::QuestionSection;
use domain::base::wire::ParseError;

pub use numbers::{Rcode, RecordType};
pub use record::{RecordData, ResourceRecord, ServiceBinding};

use super::{ByteReader, Name};

/// Maximum number of questions and records kept of one message; more are counted in
/// [`DnsMessage::left_out`].
const MAX_QUESTIONS: usize = 64;
const MAX_RECORDS: usize = 512;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsMessage {
    /// Pairs a response with its query.
    pub id: u16,
    /// Whether it is a response; otherwise it is a query.
    pub is_response: bool,
    /// The server omitted records: a query over TCP returns all of them.
    pub is_truncated: bool,
    /// The response code.
    pub rcode: Rcode,
    /// The questions; a response repeats them.
    pub questions: Vec<Question>,
    /// Records of the answer and additional sections, in order.
    pub records: Vec<ResourceRecord>,
    /// Number of records in the answer, authority and additional sections, as the header states it.
    pub counts: [u16; 3],
    /// Number of questions and records beyond the limits.
    pub left_out: usize,
    /// Whether everything that the header announces could be read.
    pub whole: bool,
}

/// A question: the part of a query that has name and type (RFC 1035 section 4.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// The type of records that are requested.
    pub kind: RecordType,
}

/// Parses a message. `None` if this is not one: no complete header, an opcode that does not exist,
/// or neither a question nor a record.
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
        counts: [counts.ancount(), counts.nscount(), counts.arcount()],
        left_out: 0,
        whole: true,
    };
    message.read_questions(raw);
    message.read_records(raw);
    let is_error = message.is_response && message.rcode != Rcode::NOERROR && counts.qdcount() == 0;
    (!message.questions.is_empty() || !message.records.is_empty() || is_error).then_some(message)
}

/// Whether this is certainly a message, on any port: it has exactly one question, of class IN or
/// ANY, and the records that the header counts end exactly at the end of the bytes.
pub fn is_certain(bytes: &[u8]) -> bool {
    let Ok(raw) = Raw::from_slice(bytes) else { return false };
    let in_class = |class| matches!(class, Class::IN | Class::ANY);
    let mut questions = raw.question();
    let one = questions.next().is_some_and(|question| question.is_ok_and(|question| in_class(question.qclass())));
    if !one || raw.header_counts().qdcount() != 1 || raw.header().opcode() != Opcode::QUERY {
        return false;
    }
    end(questions).is_ok_and(|end| end == bytes.len())
}

/// The offset at which the last record ends.
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
    /// A complete message, and the number of bytes of the stream that it occupies.
    Whole(&'a [u8], usize),
    /// The length that the stream must have, and the present part of the message.
    Partial(usize, &'a [u8]),
}

/// Parses the message at the start of a TCP stream. `None` if the length is less than 12, the
/// length of a header: then the stream is not DNS.
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
