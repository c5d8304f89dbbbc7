//! A receiver of OTLP over HTTP: its URL, and how it answers requests.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use ureq::http::{StatusCode, Uri, header};

use crate::error::{Error, Result};

/// The port of OTLP over HTTP.
const PORT: u16 = 4318;
/// The time for a request with its response, while the run lasts.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum length of a response: a sentence about rejected records.
const MAX_RESPONSE_BYTES: u64 = 64 << 10;
/// The longest pause that a receiver may request.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The base URL of a receiver: `http://HOST[:PORT][/PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpTarget {
    host: String,
    port: u16,
    path: String,
}

impl OtlpTarget {
    /// Parses a URL. Without TLS: records go to a collector on the same machine or in the same
    /// network, which passes them on.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let invalid = || "expected http://HOST[:PORT][/PATH]".to_owned();
        let url: Uri = text.parse().map_err(|_| invalid())?;
        if url.scheme_str() == Some("https") {
            return Err("https is not supported: export to a collector nearby, which can use it".to_owned());
        }
        let authority = url.authority().ok_or_else(invalid)?;
        let port = authority.port_u16().unwrap_or(PORT);
        let is_plain = !authority.as_str().contains('@') && url.query().is_none() && port != 0;
        if url.scheme_str() != Some("http") || !is_plain {
            return Err(invalid());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { host: authority.host().to_owned(), port, path })
    }

    fn url(&self, signal: &str) -> String {
        format!("{self}/v1/{signal}")
    }
}

impl fmt::Display for OtlpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

/// How a receiver answered a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtlpAnswer {
    /// It has the records, except for so many that it rejected.
    Accepted { rejected: u64 },
    /// To be sent again, after the pause that it requested.
    Later(Option<Duration>),
    /// It does not want the request.
    Refused,
    /// It could not be reached, or did not answer in time.
    Unreachable,
}

/// A receiver that was found before the run started.
#[derive(Debug)]
pub struct OtlpReceiver {
    target: OtlpTarget,
    agent: ureq::Agent,
}

impl OtlpReceiver {
    /// Resolves the host, so that an unknown one is an error before the run starts.
    pub fn find(target: &OtlpTarget) -> Result<Self> {
        let failed = |cause: io::Error| Error::os("export connections to", target.to_string(), cause);
        let host = target.host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = (host, target.port).to_socket_addrs().map_err(failed)?.collect();
        if found.is_empty() {
            return Err(failed(io::ErrorKind::AddrNotAvailable.into()));
        }
        // A proxy of the caller is for the command. Redirections would lose the body.
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("netwatch/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { target: target.clone(), agent: config.into() })
    }

    /// The target as it was written.
    pub(super) fn name(&self) -> String {
        self.target.to_string()
    }

    /// Posts a request about `signal`: `logs` or `metrics`. It takes at most this time.
    pub(super) fn post(&self, signal: &str, body: &[u8], timeout: Duration) -> OtlpAnswer {
        let request = self.agent.post(self.target.url(signal)).config().timeout_global(Some(timeout)).build();
        match request.header(header::CONTENT_TYPE, "application/x-protobuf").send(body) {
            Ok(response) => answer(response),
            Err(_) => OtlpAnswer::Unreachable,
        }
    }
}

/// The meaning of a response (the OTLP specification, "OTLP/HTTP Response").
fn answer(mut response: ureq::http::Response<ureq::Body>) -> OtlpAnswer {
    const RETRYABLE: [StatusCode; 4] = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    let status = response.status();
    if status.is_success() {
        let body = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec().unwrap_or_default();
        // The responses about logs and metrics have the same fields.
        let partial = ExportLogsServiceResponse::decode(&body[..]).ok().and_then(|response| response.partial_success);
        let rejected = partial.map_or(0, |partial| u64::try_from(partial.rejected_log_records).unwrap_or(0));
        return OtlpAnswer::Accepted { rejected };
    }
    if !RETRYABLE.contains(&status) {
        return OtlpAnswer::Refused;
    }
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    OtlpAnswer::Later(seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_PAUSE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_default_port_and_no_tls() {
        let parse = |text| OtlpTarget::parse(text).map(|target| target.to_string());
        assert_eq!(parse("http://collector.example").as_deref(), Ok("http://collector.example:4318"));
        assert_eq!(parse("http://[::1]:9/otlp/").as_deref(), Ok("http://[::1]:9/otlp"));
        for wrong in ["collector:4318", "https://x", "http://", "http://a:0", "http://a b", "http://u@h", "http://h?x"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_go_to_the_paths_of_the_specification() {
        let target = OtlpTarget::parse("http://collector.example/otlp").expect("a URL");
        assert_eq!(target.url("logs"), "http://collector.example:4318/otlp/v1/logs");
    }
}
