//! The part of HTTP/1.1 that a scraper needs: one request for each connection, and its response.

use crate::format::exposition::ExpositionFormat;

/// Bytes of the longest head of a request.
pub(super) const MAX_HEAD_BYTES: usize = 8192;

/// What the server responds with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseKind {
    /// The metrics.
    Metrics(ExpositionFormat),
    /// Where the metrics are.
    Root,
    /// Nothing is there.
    NotFound,
    /// Only GET and HEAD are answered.
    NotAllowed,
    /// The request cannot be understood.
    Malformed,
}

/// A request, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub answer: ResponseKind,
    /// Only the head of the response is wanted.
    pub is_head: bool,
}

impl Request {
    /// Parses the head of a request, without the empty line.
    pub(super) fn parse(head: &[u8]) -> Self {
        let malformed = Self { answer: ResponseKind::Malformed, is_head: false };
        let Ok(head) = std::str::from_utf8(head) else { return malformed };
        let mut lines = head.split("\r\n");
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let &[method, target, version] = words.as_slice() else { return malformed };
        if !version.starts_with("HTTP/1.") {
            return malformed;
        }
        let accept = lines.filter_map(|line| line.split_once(':'));
        let accept = accept.filter(|(name, _)| name.eq_ignore_ascii_case("accept")).map(|(_, value)| value);
        let answer = match (method, target.split('?').next()) {
            ("GET" | "HEAD", Some("/metrics")) => ResponseKind::Metrics(preferred(accept)),
            ("GET" | "HEAD", Some("/")) => ResponseKind::Root,
            ("GET" | "HEAD", _) => ResponseKind::NotFound,
            _ => ResponseKind::NotAllowed,
        };
        Self { answer, is_head: method == "HEAD" }
    }

    /// The response, with the text that `metrics` writes.
    pub(super) fn respond(self, metrics: impl FnOnce(ExpositionFormat) -> String) -> Vec<u8> {
        const PLAIN: &str = "text/plain; charset=utf-8";
        let (status, media_type, body) = match self.answer {
            ResponseKind::Metrics(format) => ("200 OK", format.media_type(), metrics(format)),
            ResponseKind::Root => ("200 OK", PLAIN, "netwatch: the metrics are at /metrics\n".to_owned()),
            ResponseKind::NotFound => ("404 Not Found", PLAIN, "the metrics are at /metrics\n".to_owned()),
            ResponseKind::NotAllowed => ("405 Method Not Allowed", PLAIN, "only GET and HEAD\n".to_owned()),
            ResponseKind::Malformed => ("400 Bad Request", PLAIN, "malformed request\n".to_owned()),
        };
        let allow = if self.answer == ResponseKind::NotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
        let length = body.len();
        let mut response = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n{allow}\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
        );
        if !self.is_head {
            response.push_str(&body);
        }
        response.into_bytes()
    }
}

/// OpenMetrics if the scraper accepts version 1.0, as every newer Prometheus does.
fn preferred<'a>(mut accept: impl Iterator<Item = &'a str>) -> ExpositionFormat {
    let is_open = |range: &str| {
        let mut words = range.split(';').map(str::trim);
        words.next() == Some("application/openmetrics-text") && words.any(|word| word == "version=1.0.0")
    };
    if accept.any(|value| value.split(',').any(is_open)) {
        ExpositionFormat::OpenMetrics
    } else {
        ExpositionFormat::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(head: &str) -> ResponseKind {
        Request::parse(head.as_bytes()).answer
    }

    #[test]
    fn the_format_is_that_of_the_accept_header() {
        let get = "GET /metrics HTTP/1.1\r\nHost: x";
        assert_eq!(answer(get), ResponseKind::Metrics(ExpositionFormat::Text));
        // As Prometheus 2.42 sends it.
        let accept = "accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
            q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(answer(&format!("{get}\r\n{accept}")), ResponseKind::Metrics(ExpositionFormat::OpenMetrics));
        let old = "Accept: application/openmetrics-text; version=0.0.1";
        assert_eq!(answer(&format!("{get}\r\n{old}")), ResponseKind::Metrics(ExpositionFormat::Text));
    }

    #[test]
    fn everything_else_is_refused() {
        assert_eq!(answer("GET /metrics?x=1 HTTP/1.0"), ResponseKind::Metrics(ExpositionFormat::Text));
        assert_eq!(answer("GET / HTTP/1.1"), ResponseKind::Root);
        assert_eq!(answer("GET /etc/passwd HTTP/1.1"), ResponseKind::NotFound);
        assert_eq!(answer("POST /metrics HTTP/1.1"), ResponseKind::NotAllowed);
        for malformed in ["", "GET /metrics", "GET /metrics HTTP/2", "\x16\x03\x01", "GET  /metrics HTTP/1.1"] {
            assert_eq!(answer(malformed), ResponseKind::Malformed, "{malformed:?}");
        }
    }

    #[test]
    fn a_head_response_has_the_length_and_no_body() {
        let text = |request: &str| {
            let response = Request::parse(request.as_bytes()).respond(|_| "x 1\n".to_owned());
            String::from_utf8(response).expect("UTF-8")
        };
        let (head, get) = (text("HEAD /metrics HTTP/1.1"), text("GET /metrics HTTP/1.1"));
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: 4\r\n"), "{head}");
        assert_eq!(get, format!("{head}x 1\n"));
        assert!(text("PUT /metrics HTTP/1.1").contains("\r\nAllow: GET, HEAD\r\n"));
    }
}
