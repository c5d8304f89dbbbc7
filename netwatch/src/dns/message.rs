//! The header and the question of a DNS message (RFC 1035 section 4.1): what a forwarder must look at, and nothing beyond.

/// Length of the header, bytes.
pub const HEADER: usize = 12;

/// RCODE values of RFC 1035 section 4.1.1 that a forwarder acts upon.
pub mod rcode {
    /// The query could not be understood.
    pub const FORMERR: u8 = 1;
    /// The server could not answer.
    pub const SERVFAIL: u8 = 2;
    /// The server does not do this kind of query.
    pub const NOTIMP: u8 = 4;
    /// The server will not answer us.
    pub const REFUSED: u8 = 5;
}

/// Why bytes are not a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// No whole header: nothing to answer to.
    Short,
    /// A response. Answering it could start a loop between two servers.
    Response,
    /// The question does not end, or there are several (RFC 9619 has that answered with FORMERR).
    Question,
}

/// A query: its bytes, checked once. With no question at all it may still ask for a cookie (RFC 7873 section 5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    bytes: Vec<u8>,
    question_end: usize,
}

impl Query {
    /// Checks the header and the question.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        if bytes.len() < HEADER {
            return Err(Malformed::Short);
        }
        if is_response(&bytes) {
            return Err(Malformed::Response);
        }
        let question_end = question_end(&bytes).ok_or(Malformed::Question)?;
        Ok(Self { bytes, question_end })
    }

    /// The whole message as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn question(&self) -> &[u8] {
        &self.bytes[HEADER..self.question_end]
    }

    /// Is this the answer to this query? Same id and opcode, and the same question (case may differ: RFC 4343). A server that
    /// could not even read the question may leave it out of its error.
    pub fn is_answered_by(&self, answer: &[u8]) -> bool {
        if answer.len() < HEADER || answer[..2] != self.bytes[..2] || !is_response(answer) {
            return false;
        }
        if opcode(answer) != opcode(&self.bytes) {
            return false;
        }
        if questions(answer) == 0 {
            return rcode_of(answer) != 0 || self.question().is_empty();
        }
        question_end(answer).is_some_and(|end| same_question(self.question(), &answer[HEADER..end]))
    }

    /// An answer of our own: the query's id and question, and this RCODE.
    pub fn error(&self, rcode: u8) -> Vec<u8> {
        error(&self.bytes[..self.question_end], rcode)
    }
}

/// FORMERR for what [`Query::parse`] refused, where there is a header to answer to.
pub fn format_error(bytes: &[u8], why: Malformed) -> Option<Vec<u8>> {
    (why == Malformed::Question).then(|| error(&bytes[..HEADER], rcode::FORMERR))
}

/// Would a stub resolver go on to its next name server after this answer? glibc (res_send.c) does after SERVFAIL, NOTIMP and REFUSED, and
/// after an empty answer from a server that neither is an authority nor recurses.
pub fn is_unhelpful(answer: &[u8]) -> bool {
    let authoritative = answer[2] & 0x04 != 0;
    let recursion_available = answer[3] & 0x80 != 0;
    let empty = answer[6..HEADER].iter().all(|byte| *byte == 0);
    match rcode_of(answer) {
        rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED => true,
        0 => empty && !authoritative && !recursion_available && !is_truncated(answer),
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

/// Where the only question ends, or the header if there is none. Compression cannot occur: there is nothing before it to point at.
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

/// Names without regard to case, type and class to the bit (0x41 and 0x61 are different types, though both are letters).
fn same_question(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() || a.len() < 4 {
        return a == b;
    }
    let name = a.len() - 4;
    a[..name].eq_ignore_ascii_case(&b[..name]) && a[name..] == b[name..]
}

/// `head` is a header with at most one question behind it.
fn error(head: &[u8], rcode: u8) -> Vec<u8> {
    let mut answer = head.to_vec();
    answer[2] = 0x80 | (head[2] & 0x79); // QR; opcode and RD as asked
    answer[3] = 0x80 | rcode; // RA
    answer[4..HEADER].fill(0);
    answer[5] = u8::from(head.len() > HEADER);
    answer
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03app\x07example\x00\x00\x41\x00\x01";

    fn answer_to(query: &[u8]) -> Vec<u8> {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer[3] |= 0x80;
        answer
    }

    #[test]
    fn knows_its_answer_from_others() {
        let query = Query::parse(QUERY.to_vec()).unwrap();
        let answer = answer_to(QUERY);
        assert!(query.is_answered_by(&answer));
        let changed = |at: usize, to: u8| {
            let mut other = answer.clone();
            other[at] = to;
            query.is_answered_by(&other)
        };
        assert!(changed(13, b'A'), "case does not matter");
        assert!(!changed(0, 0x13), "id");
        assert!(!changed(2, 0x01), "not a response");
        assert!(!changed(2, 0x91), "opcode");
        assert!(!changed(14, b'x'), "name");
        assert!(!changed(26, 0x61), "type 97 is not type 65");
        assert!(!query.is_answered_by(&answer[..11]));
        let mut bare = answer[..HEADER].to_vec();
        bare[5] = 0;
        assert!(!query.is_answered_by(&bare), "success without the question");
        bare[3] |= rcode::FORMERR;
        assert!(query.is_answered_by(&bare), "an error without the question");
    }

    #[test]
    fn refuses_what_is_not_a_query() {
        let refused = |bytes: &[u8]| Query::parse(bytes.to_vec()).unwrap_err();
        assert_eq!(refused(&QUERY[..11]), Malformed::Short);
        assert_eq!(refused(&answer_to(QUERY)), Malformed::Response);
        assert_eq!(refused(&QUERY[..QUERY.len() - 1]), Malformed::Question);
        let mut pointer = QUERY.to_vec();
        pointer[HEADER] = 0xc0;
        assert_eq!(refused(&pointer), Malformed::Question);
        let mut two = QUERY.to_vec();
        two[5] = 2;
        assert_eq!(refused(&two), Malformed::Question);
        let answer = format_error(&two, Malformed::Question).unwrap();
        assert_eq!(answer, b"\x12\x34\x81\x81\x00\x00\x00\x00\x00\x00\x00\x00");
        assert_eq!(format_error(&QUERY[..11], Malformed::Short), None);
    }

    #[test]
    fn its_errors_answer_the_query() {
        let mut with_opt = QUERY.to_vec();
        with_opt[11] = 1;
        with_opt.extend_from_slice(b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00");
        let query = Query::parse(with_opt).unwrap();
        let answer = query.error(rcode::SERVFAIL);
        assert!(query.is_answered_by(&answer) && is_unhelpful(&answer));
        assert_eq!(&answer[HEADER..], &QUERY[HEADER..]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), other in prop::collection::vec(any::<u8>(), 0..80)) {
            match Query::parse(bytes.clone()) {
                Ok(query) => {
                    let answer = query.error(rcode::SERVFAIL);
                    prop_assert!(query.is_answered_by(&answer));
                    if query.is_answered_by(&other) {
                        is_unhelpful(&other);
                    }
                }
                Err(why) => { format_error(&bytes, why); }
            }
        }
    }
}
