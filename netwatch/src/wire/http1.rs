//! Heads of messages of HTTP/1 (RFC 9112) and of protocols with the same syntax: RTSP, SIP, and
//! SSDP in datagrams.

use super::Application;

/// Maximum length of a line that is searched for its end, bytes.
const MAX_LINE: usize = 8192;
/// Maximum length of a method, bytes; a little more than the longest that is registered.
const MAX_METHOD: usize = 24;

/// The head of a request, as far as it has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// HTTP, or another protocol with such heads.
    pub application: Application,
    /// `GET`.
    pub method: &'a [u8],
    /// The request target, mostly a path.
    pub target: &'a [u8],
    /// Value of the first complete `Host` field.
    pub host: Option<&'a [u8]>,
    /// The body that follows the head.
    pub body: Body,
    /// Length of the head including the empty line, bytes; `None` if the empty line was not found.
    pub length: Option<usize>,
}

/// The body that follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunks, whose lengths are in the body itself.
    Chunked,
}

/// Whether bytes begin with a certain element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins<T> {
    /// They do.
    Yes(T),
    /// They may: there are too few to decide.
    Perhaps,
    /// They do not.
    No,
}

/// Parses the head of a request.
pub fn request(bytes: &[u8]) -> Begins<RequestHead<'_>> {
    let method_length = bytes.iter().take_while(|byte| is_method(**byte)).count();
    match bytes.get(method_length) {
        None if (1..=MAX_METHOD).contains(&method_length) => return Begins::Perhaps,
        Some(b' ') if (2..=MAX_METHOD).contains(&method_length) => {}
        _ => return Begins::No,
    }
    let Some((line, rest)) = line(bytes) else {
        return if bytes.len() < MAX_LINE && is_text(bytes) { Begins::Perhaps } else { Begins::No };
    };
    let Some((application, target)) = request_target(&line[method_length + 1..]) else { return Begins::No };
    let method = &bytes[..method_length];
    let mut request = RequestHead { application, method, target, host: None, body: Body::Length(0), length: None };
    request.length = request.read_fields(rest).map(|after| bytes.len() - after.len());
    Begins::Yes(request)
}

/// The protocol whose response begins with these bytes, if one does.
pub fn response(bytes: &[u8]) -> Option<Application> {
    let (version, rest) = bytes.split_at_checked(8)?;
    let is_status = matches!(rest, [b' ', a, b, c, ..] if [a, b, c].into_iter().all(u8::is_ascii_digit));
    // SIP/2.0 is one character shorter.
    match version.strip_suffix(b" ") {
        Some(sip) if rest.first().is_some_and(u8::is_ascii_digit) => application(sip),
        _ if is_status => application(version),
        _ => None,
    }
}

/// Splits off the first line, without its line end.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    Some((line.strip_suffix(b"\r").unwrap_or(line), &rest[1..]))
}

fn is_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_')
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte >= b' ')
}

/// The protocol and the target: what is between the method and the version, and the version.
fn request_target(rest: &[u8]) -> Option<(Application, &[u8])> {
    let rest = rest.trim_ascii();
    let space = rest.iter().rposition(|byte| *byte == b' ')?;
    Some((application(&rest[space + 1..])?, rest[..space].trim_ascii()))
}

fn application(version: &[u8]) -> Option<Application> {
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'0' | b'1', b'.', b'0'..=b'9'] => Some(Application::Http),
        [b'R', b'T', b'S', b'P', b'/', b'1' | b'2', b'.', b'0'] => Some(Application::Rtsp),
        [b'S', b'I', b'P', b'/', b'2', b'.', b'0'] => Some(Application::Sip),
        _ => None,
    }
}

impl<'a> RequestHead<'a> {
    /// Reads fields up to the empty line; returns what follows that.
    fn read_fields(&mut self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let (line, after) = line(rest)?;
            if line.is_empty() {
                return Some(after);
            }
            self.read_field(line);
            rest = after;
        }
    }

    fn read_field(&mut self, line: &'a [u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"host") {
            self.host.get_or_insert(value);
        } else if name.eq_ignore_ascii_case(b"content-length") && self.body != Body::Chunked {
            self.body = Body::Length(str::from_utf8(value).ok().and_then(|value| value.parse().ok()).unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.body = Body::Chunked;
        }
    }

    /// The host of the request: the target's if that has one (RFC 9112 section 3.2.2), else the
    /// `Host` field's. Without port.
    pub fn authority(&self) -> Option<&'a [u8]> {
        let named = if self.method == b"CONNECT" { Some(self.target) } else { absolute(self.target) };
        named.or(self.host).map(without_port).filter(|host| !host.is_empty())
    }

    /// Whether this is a request to a proxy. The authority is then not the peer of this connection
    /// (RFC 9112 section 3.2).
    pub fn is_proxied(&self) -> bool {
        self.method == b"CONNECT" || absolute(self.target).is_some()
    }
}

/// The authority of `http://host:port/…`.
fn absolute(target: &[u8]) -> Option<&[u8]> {
    let scheme = target.iter().position(|byte| *byte == b':')?;
    let rest = target[scheme..].strip_prefix(b"://")?;
    if !target[..scheme].iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let authority = &rest[..end];
    let user = authority.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
    Some(&authority[user..])
}

/// The host of `host:port`, and of `[2001:db8::1]:port`.
pub fn without_port(authority: &[u8]) -> &[u8] {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    match colon {
        Some(colon) if authority[colon + 1..].iter().all(u8::is_ascii_digit) && !is_bare_v6(&authority[..colon]) => {
            &authority[..colon]
        }
        _ => authority,
    }
}

/// An IPv6 address should be in brackets; without them, its last group is not a port.
fn is_bare_v6(host: &[u8]) -> bool {
    !host.starts_with(b"[") && host.contains(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> RequestHead<'_> {
        match request(bytes) {
            Begins::Yes(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parses_a_request() {
        let head = b"GET /a b HTTP/1.1\r\nUser-Agent: x\r\nhost:  App.Example:8080 \r\nContent-Length: 12\r\n\r\nbody";
        let request = read(head);
        assert_eq!((request.method, request.target), (&b"GET"[..], &b"/a b"[..]));
        assert_eq!(request.authority(), Some(&b"App.Example"[..]));
        assert_eq!((request.body, request.length), (Body::Length(12), Some(head.len() - 4)));
    }

    #[test]
    fn ignores_a_host_line_that_is_cut_off() {
        let request = read(b"GET / HTTP/1.1\r\nHost: app.exam");
        assert_eq!((request.host, request.length), (None, None));
        assert_eq!(super::request(b"GET / HTT"), Begins::Perhaps);
        assert_eq!(super::request(b"GE"), Begins::Perhaps);
        assert_eq!(super::request(b"GET / FTP/1.0\r\n"), Begins::No);
        assert_eq!(super::request(b"get / HTTP/1.1\r\n"), Begins::No);
        assert_eq!(super::request(b"GET \x00"), Begins::No);
    }

    #[test]
    fn finds_the_authority() {
        let authority =
            |head: &'static str| read(head.as_bytes()).authority().map(|host| str::from_utf8(host).unwrap());
        assert_eq!(authority("CONNECT app.example:443 HTTP/1.1\r\nHost: other\r\n\r\n"), Some("app.example"));
        assert_eq!(authority("GET http://u@app.example:80/x HTTP/1.1\r\nHost: proxy\r\n\r\n"), Some("app.example"));
        assert_eq!(authority("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"), Some("[2001:db8::1]"));
        assert_eq!(authority("GET / HTTP/1.1\r\nHost: 2001:db8::1\r\n\r\n"), Some("2001:db8::1"));
        assert_eq!(authority("GET / HTTP/1.0\r\n\r\n"), None);
        assert_eq!(authority("GET /?u=http://x HTTP/1.0\r\nHost:\r\n\r\n"), None);
    }

    #[test]
    fn parses_protocols_with_the_same_syntax() {
        assert_eq!(read(b"DESCRIBE rtsp://198.51.100.1/a RTSP/1.0\r\n\r\n").application, Application::Rtsp);
        assert_eq!(read(b"INVITE sip:a@b.example SIP/2.0\r\n\r\n").application, Application::Sip);
        assert_eq!(response(b"HTTP/1.1 200 OK\r\n"), Some(Application::Http));
        assert_eq!(response(b"SIP/2.0 100 Trying\r\n"), Some(Application::Sip));
        assert_eq!(response(b"HTTP/1.1 abc"), None);
        assert_eq!(response(b"HTTP/1."), None);
    }
}
