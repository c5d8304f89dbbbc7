//! Reads one direction of a TCP flow: selects the parser, and decides when to parse again.

use super::event::{HttpRequest, NameEvent};
use super::facts::RequestLine;
use super::stream::Stream;
use crate::wire::http1::{self, Begins, Body};
use crate::wire::http2::{self, Requests};
use crate::wire::identify::{self, Greeting, Identification, Ports};
use crate::wire::tls::{self, Carrier, ClientHello, Hello, ServerHello};
use crate::wire::{Application, Name, dns, port, proxy_header, text};

/// Maximum number of attempts to parse as soon as enough bytes have arrived. Later attempts wait
/// for a tenth more bytes, which bounds the cost of a stream of single bytes to a few times its
/// length.
const MAX_EAGER_ATTEMPTS: u32 = 64;

/// Number of segments at the start of which a protocol is identified by its first bytes alone.
/// There are several, because a proxy protocol may come first.
const MAX_EARLY_SEGMENTS: u8 = 4;

/// The state of one direction.
#[derive(Debug)]
pub(super) struct DirectionReader {
    stream: Stream,
    parser: Parser,
    /// Minimum length of the readable bytes before the next attempt.
    wait: usize,
    attempts: u32,
    /// Number of segments at the start of which nothing was recognized.
    moves: u8,
    /// A greeting that does not identify a protocol alone.
    pub greeting: Option<Greeting>,
    is_done: bool,
}

#[derive(Debug)]
enum Parser {
    /// No protocol yet, or between two messages.
    Any,
    /// A TLS hello that is incomplete.
    Tls,
    /// The head of an HTTP request that is incomplete.
    Http1,
    Http2(Box<Requests>),
    Dns,
}

/// The result of a parser.
#[derive(Debug, PartialEq, Eq)]
enum ParseStep {
    /// This many bytes have been parsed.
    Took(u64),
    /// At least this many bytes are needed.
    Needs(usize),
    /// Nothing is recognized at this offset.
    NotHere,
    /// Nothing more is to be read.
    Done,
}

/// The input of a parser besides the bytes.
struct ParseContext<'a> {
    ports: Ports,
    /// No more bytes will arrive at this offset.
    is_final: bool,
    /// Near the start of the flow, and nothing has been recognized yet. Only there is a protocol
    /// identified by its first bytes alone; later, these may be content of another protocol.
    is_early: bool,
    /// Unrecognized bytes came before, so a name after them may not belong to the remote.
    follows_unknown: bool,
    out: &'a mut Vec<NameEvent>,
}

impl DirectionReader {
    pub fn new(limit: usize) -> Self {
        Self {
            stream: Stream::new(limit),
            parser: Parser::Any,
            wait: 0,
            attempts: 0,
            moves: 0,
            greeting: None,
            is_done: false,
        }
    }

    pub fn is_done(&self) -> bool {
        self.is_done
    }

    pub fn held(&self) -> usize {
        let parser = if let Parser::Http2(requests) = &self.parser { requests.held() } else { 0 };
        self.stream.held() + parser
    }

    /// Takes a SYN. False if it begins another stream than this one.
    pub fn begin(&mut self, sequence: u32) -> bool {
        self.stream.begin(sequence)
    }

    /// Takes a segment. Returns false if it exceeded the limit while a message was being read. A
    /// stream in which nothing was recognized is closed too, but nothing is lost with it.
    pub fn push(
        &mut self,
        sequence: u32,
        payload: &[u8],
        is_cut: bool,
        ports: Ports,
        out: &mut Vec<NameEvent>,
    ) -> bool {
        if self.is_done || payload.is_empty() {
            return true;
        }
        let Ok(rewinds) = self.stream.push(sequence, payload, is_cut) else {
            return self.make_room(sequence, payload, ports, out);
        };
        if rewinds {
            self.restart();
        }
        self.read(ports, false, out);
        true
    }

    /// Parses the buffered bytes as far as possible, which makes room if anything is recognized.
    fn make_room(&mut self, sequence: u32, payload: &[u8], ports: Ports, out: &mut Vec<NameEvent>) -> bool {
        let mut is_nothing_lost = matches!(self.parser, Parser::Any);
        self.read(ports, true, out);
        is_nothing_lost &= matches!(self.parser, Parser::Any);
        if !self.is_done && self.stream.push(sequence, payload, false).is_ok() {
            self.read(ports, false, out);
        } else {
            self.close();
        }
        is_nothing_lost
    }

    /// The other direction identified the protocol of this one, so the bytes so far are recognized
    /// too.
    pub fn mark_recognized(&mut self) {
        if !self.is_done && matches!(self.parser, Parser::Any) {
            self.stream.advance(0);
            self.stream.skip_readable();
        }
    }

    /// Ends reading.
    pub fn finish(&mut self, ports: Ports, out: &mut Vec<NameEvent>) {
        if !self.is_done {
            self.read(ports, true, out);
            self.close();
        }
    }

    fn restart(&mut self) {
        self.parser = Parser::Any;
        self.wait = 0;
    }

    fn close(&mut self) {
        self.is_done = true;
        self.parser = Parser::Any;
        self.stream.clear();
    }

    /// Parses the readable bytes.
    fn read(&mut self, ports: Ports, is_last: bool, out: &mut Vec<NameEvent>) {
        loop {
            let length = self.stream.readable().len();
            let is_final = is_last || self.stream.is_cut();
            if length == 0 || (length < self.wait && !is_final) {
                if length == 0 && matches!(self.parser, Parser::Any) && self.next_start(is_last) {
                    continue;
                }
                if !is_last || !self.next_start(true) {
                    return;
                }
                continue;
            }
            let is_early = self.moves < MAX_EARLY_SEGMENTS && !self.stream.is_read();
            let follows_unknown = self.moves > 0 && !self.stream.is_read();
            match self.step(&mut ParseContext { ports, is_final, is_early, follows_unknown, out: &mut *out }) {
                ParseStep::Took(count) => {
                    self.stream.advance(count);
                    self.wait = 0;
                }
                ParseStep::Needs(count) if !is_final => return self.wait_for(count, length),
                ParseStep::Needs(_) | ParseStep::NotHere => {
                    if !self.next_start(is_last) {
                        self.stream.skip_readable();
                        return;
                    }
                }
                ParseStep::Done => return self.close(),
            }
        }
    }

    fn wait_for(&mut self, count: usize, length: usize) {
        self.attempts += 1;
        self.wait = if self.attempts < MAX_EAGER_ATTEMPTS { count } else { count.max(length + length / 10) };
    }

    /// Continues at the start of the next segment, where another message may begin.
    fn next_start(&mut self, over_gaps: bool) -> bool {
        let moved = self.stream.next_start(over_gaps);
        if moved {
            self.moves = self.moves.saturating_add(1);
            self.restart();
        }
        moved
    }

    fn step(&mut self, context: &mut ParseContext<'_>) -> ParseStep {
        let data = self.stream.readable();
        match &mut self.parser {
            Parser::Any => match identify_start(data, context, &mut self.greeting) {
                Ok(step) => step,
                Err(parser) => {
                    context.out.extend(context.follows_unknown.then_some(NameEvent::FollowsUnknown));
                    self.switch_to(parser)
                }
            },
            Parser::Tls => hello(data, context),
            Parser::Http1 => {
                let step = request(data, context);
                if let ParseStep::Took(_) = step {
                    self.parser = Parser::Any;
                }
                step
            }
            Parser::Http2(requests) => frames(requests, data, context),
            Parser::Dns => message(data, context),
        }
    }

    /// Selects the parser, which starts at once.
    fn switch_to(&mut self, parser: Parser) -> ParseStep {
        let took = if matches!(parser, Parser::Http2(_)) { http2::PREFACE.len() as u64 } else { 0 };
        self.parser = parser;
        ParseStep::Took(took)
    }
}

/// Recognizes the start of a message. `Err` is the parser for a protocol that has one.
fn identify_start(
    data: &[u8],
    context: &mut ParseContext<'_>,
    greeting: &mut Option<Greeting>,
) -> Result<ParseStep, Parser> {
    const PROOF: usize = 6;
    if let Some(length) = proxy_header::length(data) {
        return Ok(ParseStep::Took(length as u64));
    }
    if tls::may_begin_client_hello(data) {
        return if data.len() < PROOF { Ok(ParseStep::Needs(PROOF)) } else { Err(Parser::Tls) };
    }
    if data.starts_with(http2::PREFACE) {
        context.out.push(NameEvent::Proven(Application::Http2, "preface"));
        return Err(Parser::Http2(Box::default()));
    }
    if http2::PREFACE.starts_with(data) {
        return Ok(ParseStep::Needs(http2::PREFACE.len()));
    }
    if context.ports.has(port::DNS) && is_dns(data) {
        return Err(Parser::Dns);
    }
    match http1::request(data) {
        Begins::Yes(_) => Err(Parser::Http1),
        Begins::Perhaps => Ok(ParseStep::Needs(data.len() + 1)),
        Begins::No => Ok(server_start(data, context, greeting)),
    }
}

/// Whether the bytes begin with a plausible length and DNS header.
fn is_dns(data: &[u8]) -> bool {
    match dns::framed(data) {
        Some(dns::Framed::Whole(message, _)) => dns::parse(message).is_some(),
        Some(dns::Framed::Partial(_, part)) => part.len() < 12 || dns::parse(part).is_some(),
        None => false,
    }
}

/// Recognizes responses of servers, and protocols by their first bytes.
fn server_start(data: &[u8], context: &mut ParseContext<'_>, greeting: &mut Option<Greeting>) -> ParseStep {
    if let Some(message) = tls::first_message(data)
        && !message.is_client
    {
        return server_hello(&message, context);
    }
    if let Some(application) = http1::response(data) {
        context.out.push(NameEvent::Proven(application, "response"));
        return ParseStep::Took(data.len() as u64);
    }
    let evidence = if context.is_early { identify::stream(data) } else { Identification::None };
    match evidence {
        Identification::Certain(application) => follow(data, application, context),
        Identification::Greeting(words) => {
            *greeting = Some(words);
            ParseStep::NotHere
        }
        Identification::None if tls::looks_like_records(data) => {
            context.out.push(NameEvent::Proven(Application::Tls, "records"));
            ParseStep::Done
        }
        Identification::None => ParseStep::NotHere,
    }
}

/// Protocols that may switch to TLS are followed further, others are not.
fn follow(data: &[u8], application: Application, context: &mut ParseContext<'_>) -> ParseStep {
    context.out.push(NameEvent::Proven(application, "first_bytes"));
    match application {
        Application::Ssh => banner(data, context),
        application if may_turn_to_tls(application) => ParseStep::Took(data.len() as u64),
        _ => ParseStep::Done,
    }
}

/// Protocols in which TLS begins on request.
pub(super) fn may_turn_to_tls(application: Application) -> bool {
    use Application::{Amqp, Ftp, Imap, Ldap, MySql, Pop3, Postgres, Rdp, Smtp, Xmpp};
    matches!(application, Smtp | Imap | Pop3 | Ftp | Postgres | Ldap | Xmpp | MySql | Rdp | Amqp)
}

/// RFC 4253 section 4.2: at most 255 characters.
fn banner(data: &[u8], context: &mut ParseContext<'_>) -> ParseStep {
    const MAX: usize = 255;
    match data.iter().take(MAX).position(|byte| *byte == b'\n') {
        Some(end) => context.out.push(NameEvent::Banner(text::escape(data[..end].trim_ascii_end(), MAX))),
        None if data.len() < MAX && !context.is_final => return ParseStep::Needs(data.len() + 1),
        None => {}
    }
    ParseStep::Done
}

fn server_hello(message: &tls::HelloMessage<'_>, context: &mut ParseContext<'_>) -> ParseStep {
    if !message.whole && !context.is_final {
        return ParseStep::Needs(message.needs);
    }
    context.out.push(NameEvent::Proven(Application::Tls, "server_hello"));
    context.out.extend(ServerHello::parse(&message.body).map(NameEvent::ServerHello));
    ParseStep::Done
}

fn hello(data: &[u8], context: &mut ParseContext<'_>) -> ParseStep {
    let Some(message) = tls::first_message(data) else { return ParseStep::NotHere };
    if let Some(hello) = ClientHello::parse(&message.body, message.whole, Carrier::Tls) {
        context.out.push(NameEvent::ClientHello(Box::new(Hello::from(&hello))));
    }
    if message.whole { ParseStep::Done } else { ParseStep::Needs(message.needs.min(data.len() * 2)) }
}

fn request(data: &[u8], context: &mut ParseContext<'_>) -> ParseStep {
    let Begins::Yes(head) = http1::request(data) else { return ParseStep::NotHere };
    context.out.push(NameEvent::Proven(head.application, "request"));
    if head.application == Application::Http {
        context.out.push(NameEvent::Request(HttpRequest {
            line: RequestLine {
                method: text::escape(head.method, RequestLine::MAX_TARGET),
                target: text::escape(head.target, RequestLine::MAX_TARGET),
            },
            host: head.authority().and_then(Name::new),
            is_proxied: head.is_proxied(),
        }));
    }
    match (head.length, head.body) {
        (None, _) => ParseStep::Needs(data.len() + 1),
        // Chunks are not tracked. Reading stops here, because what looks like a request inside a
        // chunk may be content.
        (Some(_), Body::Chunked) => ParseStep::Done,
        (Some(length), Body::Length(body)) => ParseStep::Took((length as u64).saturating_add(body)),
    }
}

fn frames(requests: &mut Requests, data: &[u8], context: &mut ParseContext<'_>) -> ParseStep {
    match requests.step(data) {
        http2::FrameStep::Frame(length, authority) => {
            let name = authority.and_then(|authority| Name::new(http1::without_port(&authority)));
            context.out.extend(name.map(NameEvent::Authority));
            ParseStep::Took(length)
        }
        http2::FrameStep::Needs(length) => ParseStep::Needs(length),
        http2::FrameStep::Broken => {
            context.out.push(NameEvent::Http2Broken);
            ParseStep::Done
        }
    }
}

fn message(data: &[u8], context: &mut ParseContext<'_>) -> ParseStep {
    match dns::framed(data) {
        Some(dns::Framed::Whole(bytes, length)) => {
            context.out.extend(dns::parse(bytes).map(|message| NameEvent::Dns(Box::new(message))));
            ParseStep::Took(length as u64)
        }
        Some(dns::Framed::Partial(needs, part)) => {
            if context.is_final {
                context.out.extend(dns::parse(part).map(|message| NameEvent::Dns(Box::new(message))));
            }
            ParseStep::Needs(needs)
        }
        None => ParseStep::NotHere,
    }
}
