//! The header and the question of a DNS message (RFC 1035 section 4.1), as far as a forwarder needs
//! them. Full messages are parsed by [`crate::wire::dns`].

/// Length of the header, bytes.
pub const HEADER: usize = 12;

/// RCODE values of RFC 1035 section 4.1.1 that the forwarder uses.
pub mod rcode {
    /// The server could not interpret the query.
    pub const FORMERR: u8 = 1;
    /// The server failed.
    pub const SERVFAIL: u8 = 2;
    /// The server does not support this kind of query.
    pub const NOTIMP: u8 = 4;
    /// The server refuses this query or this client.
    pub const REFUSED: u8 = 5;
}

/// Why bytes are not a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MalformedQuery {
    /// Shorter than a header, so no response is possible.
    Short,
    /// A response. Responding to it could start a loop between two servers.
    Response,
    /// The question is cut off, or there are several (RFC 9619 requires FORMERR for that). Contains
    /// the header.
    Question([u8; HEADER]),
}

/// A query whose header and question have been checked. One without a question may still request a
/// cookie (RFC 7873 section 5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    bytes: Vec<u8>,
    question_end: usize,
}

impl Query {
    /// Checks the header and the question.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, MalformedQuery> {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Err(MalformedQuery::Short) };
        if is_response(&bytes) {
            return Err(MalformedQuery::Response);
        }
        let question_end = question_end(&bytes).ok_or(MalformedQuery::Question(*header))?;
        Ok(Self { bytes, question_end })
    }

    /// The whole message as received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn question(&self) -> &[u8] {
        &self.bytes[HEADER..self.question_end]
    }

    /// Whether this is a response to the query: it has the same id, opcode and question (case may
    /// differ: RFC 4343). A server that could not parse the question may leave it out of its error.
    pub fn is_answered_by(&self, response: &[u8]) -> bool {
        if response.len() < HEADER || response[..2] != self.bytes[..2] || !is_response(response) {
            return false;
        }
        if opcode(response) != opcode(&self.bytes) {
            return false;
        }
        if questions(response) == 0 {
            return rcode_of(response) != 0 || self.question().is_empty();
        }
        question_end(response).is_some_and(|end| same_question(self.question(), &response[HEADER..end]))
    }

    /// A response without records: the query's id and question, and this RCODE.
    pub fn error(&self, rcode: u8) -> Vec<u8> {
        error(&self.bytes[..self.question_end], rcode)
    }
}

/// The FORMERR response to a message that [`Query::parse`] refused; `None` if it must not be
/// answered.
pub fn format_error(malformed: &MalformedQuery) -> Option<Vec<u8>> {
    let MalformedQuery::Question(header) = malformed else { return None };
    Some(error(header, rcode::FORMERR))
}

/// Whether a stub resolver would query its next name server after this response. glibc (res_send.c)
/// does after SERVFAIL, NOTIMP and REFUSED, and after an empty response from a server that is not
/// authoritative and does not recurse.
pub fn is_unhelpful(response: &[u8]) -> bool {
    let authoritative = response[2] & 0x04 != 0;
    let recursion_available = response[3] & 0x80 != 0;
    let empty = response[6..HEADER].iter().all(|byte| *byte == 0);
    match rcode_of(response) {
        rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED => true,
        0 => empty && !authoritative && !recursion_available && !is_truncated(response),
        _ => false,
    }
}

fn is_truncated(message: &[u8]) -> bool {
    message[2] & 0x02 != 0
}

fn is_response(message: &[u8]) -> bool {
    message[2] & 0x80 != 0
}

fn opcode(message: &[u8]) -> u8 {
    message[2] & 0x78
}

fn rcode_of(message: &[u8]) -> u8 {
    message[3] & 0x0f
}

fn questions(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[4], message[5]])
}

/// The offset at which the only question ends, or the header if there is no question. The question
/// cannot be compressed: there is no earlier name to point at.
fn question_end(message: &[u8]) -> Option<usize> {
    match questions(message) {
        0 => return Some(HEADER),
        1 => {}
        _ => return None,
    }
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    let end = at + 5;
    (at - HEADER < 255 && end <= message.len()).then_some(end)
}

/// Compares names without regard to case; type and class must be identical (0x41 and 0x61 are
/// different types, although they are the same letter).
fn same_question(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() || a.len() < 4 {
        return a == b;
    }
    let name = a.len() - 4;
    a[..name].eq_ignore_ascii_case(&b[..name]) && a[name..] == b[name..]
}

/// `head` is a header, followed by at most one question.
fn error(head: &[u8], rcode: u8) -> Vec<u8> {
    let mut response = head.to_vec();
    response[2] = 0x80 | (head[2] & 0x79); // QR; opcode and RD as in the query
    response[3] = 0x80 | rcode; // RA
    response[4..HEADER].fill(0);
    response[5] = u8::from(head.len() > HEADER);
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03app\x07example\x00\x00\x41\x00\x01";

    fn response_to(query: &[u8]) -> Vec<u8> {
        let mut response = query.to_vec();
        response[2] |= 0x80;
        response[3] |= 0x80;
        response
    }

    #[test]
    fn recognizes_its_response() {
        let query = Query::parse(QUERY.to_vec()).unwrap();
        let response = response_to(QUERY);
        assert!(query.is_answered_by(&response));
        let changed = |at: usize, to: u8| {
            let mut other = response.clone();
            other[at] = to;
            query.is_answered_by(&other)
        };
        assert!(changed(13, b'A'), "case does not matter");
        assert!(!changed(0, 0x13), "id");
        assert!(!changed(2, 0x01), "not a response");
        assert!(!changed(2, 0x91), "opcode");
        assert!(!changed(14, b'x'), "name");
        assert!(!changed(26, 0x61), "type 97 is not type 65");
        assert!(!query.is_answered_by(&response[..11]));
        let mut bare = response[..HEADER].to_vec();
        bare[5] = 0;
        assert!(!query.is_answered_by(&bare), "success without the question");
        bare[3] |= rcode::FORMERR;
        assert!(query.is_answered_by(&bare), "an error without the question");
    }

    #[test]
    fn refuses_malformed_messages_and_responses() {
        let refused = |bytes: &[u8]| Query::parse(bytes.to_vec()).unwrap_err();
        assert_eq!(refused(&QUERY[..11]), MalformedQuery::Short);
        assert_eq!(refused(&response_to(QUERY)), MalformedQuery::Response);
        let header = *QUERY.first_chunk().unwrap();
        assert_eq!(refused(&QUERY[..QUERY.len() - 1]), MalformedQuery::Question(header));
        let mut pointer = QUERY.to_vec();
        pointer[HEADER] = 0xc0;
        assert_eq!(refused(&pointer), MalformedQuery::Question(header));
        let mut two = QUERY.to_vec();
        two[5] = 2;
        let response = format_error(&refused(&two)).unwrap();
        assert_eq!(response, b"\x12\x34\x81\x81\x00\x00\x00\x00\x00\x00\x00\x00");
        assert_eq!(format_error(&MalformedQuery::Short), None);
    }

    #[test]
    fn an_error_is_a_response_to_its_query() {
        let mut with_opt = QUERY.to_vec();
        with_opt[11] = 1;
        with_opt.extend_from_slice(b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00");
        let query = Query::parse(with_opt).unwrap();
        let response = query.error(rcode::SERVFAIL);
        assert!(query.is_answered_by(&response) && is_unhelpful(&response));
        assert_eq!(&response[HEADER..], &QUERY[HEADER..]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), other in prop::collection::vec(any::<u8>(), 0..80)) {
            match Query::parse(bytes) {
                Ok(query) => {
                    let response = query.error(rcode::SERVFAIL);
                    prop_assert!(query.is_answered_by(&response));
                    if query.is_answered_by(&other) {
                        is_unhelpful(&other);
                    }
                }
                Err(malformed) => { format_error(&malformed); }
            }
        }
    }
}
