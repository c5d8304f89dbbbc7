//! A receiver of OTLP over HTTP: its URL, and how it answers requests.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::unistd::{Gid, Uid};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use ureq::http::{StatusCode, Uri, header};
use ureq::unversioned::transport::DefaultConnector;

use super::resolver::OtlpResolver;
use super::spool::{OtlpSpool, SpoolOptions};
use super::tls;
use crate::error::{Error, Result};

/// The port of OTLP over HTTP.
const PORT: u16 = 4318;
/// The time for a request with its response, while the run lasts.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum length of a response: a sentence about rejected records.
const MAX_RESPONSE_BYTES: u64 = 64 << 10;
/// The longest pause that a receiver may request.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The base URL of a receiver: `http://HOST[:PORT][/PATH]`, or `https://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpTarget {
    has_tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// How all receivers are reached.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OtlpOptions {
    /// PEM file with the authorities that may sign the certificate of a receiver; by default those
    /// of the system.
    pub authorities: Option<PathBuf>,
    /// Compress requests by gzip.
    pub compresses: bool,
    /// Keep on disk what receivers have not accepted.
    pub spool: Option<SpoolOptions>,
}

impl OtlpTarget {
    /// Parses a URL.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let invalid = || "expected http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]".to_owned();
        let url: Uri = text.parse().map_err(|_| invalid())?;
        let has_tls = match url.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(invalid()),
        };
        let authority = url.authority().ok_or_else(invalid)?;
        // Without a port, the host is everything. Other text in its place is no port.
        let is_without = authority.as_str() == authority.host();
        let port = if is_without { PORT } else { authority.port_u16().unwrap_or_default() };
        if authority.as_str().contains('@') || url.query().is_some() || port == 0 {
            return Err(invalid());
        }
        let path = url.path().trim_end_matches('/').to_owned();
        Ok(Self { has_tls, host: authority.host().to_owned(), port, path })
    }

    fn url(&self, signal: &str) -> String {
        format!("{self}/v1/{signal}")
    }
}

impl fmt::Display for OtlpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.has_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
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
    /// The receiver did not answer, and may have moved: see [`OtlpResolver`].
    is_stale: Arc<AtomicBool>,
    compresses: bool,
    pub(super) spool: Option<OtlpSpool>,
    /// Why the last request did not reach it.
    failure: Mutex<Option<String>>,
}

impl OtlpReceiver {
    /// Resolves the host, so that an unknown one is an error before the run starts. So is, with
    /// TLS, a certificate that is not accepted, if the receiver answers within two seconds. The
    /// file of authorities is read with the rights of its owner.
    pub fn find(target: &OtlpTarget, options: &OtlpOptions, owner: (Uid, Gid)) -> Result<Self> {
        let failed = |cause: io::Error| Error::os("export connections to", target.to_string(), cause);
        let host = target.host.trim_start_matches('[').trim_end_matches(']');
        let found: Vec<SocketAddr> = (host, target.port).to_socket_addrs().map_err(failed)?.collect();
        if found.is_empty() {
            return Err(failed(io::ErrorKind::AddrNotAvailable.into()));
        }
        // A proxy of the caller is for the command. Redirections would lose the body.
        let tls = target.has_tls.then(|| tls::config(options.authorities.as_deref(), owner)).transpose()?;
        let config = ureq::Agent::config_builder()
            .tls_config(tls.unwrap_or_default())
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("netwatch/", env!("CARGO_PKG_VERSION")))
            .build();
        let spool = options.spool.as_ref().map(|spool| OtlpSpool::open(spool, target, owner)).transpose()?;
        let (target, compresses) = (target.clone(), options.compresses);
        let resolver = OtlpResolver::new(found);
        let is_stale = resolver.is_stale.clone();
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
        let found = Self { target, agent, is_stale, compresses, spool, failure: Mutex::default() };
        if found.target.has_tls {
            found.require_certificate()?;
        }
        Ok(found)
    }

    /// Sends a request without records. A receiver that cannot be reached may be there later.
    fn require_certificate(&self) -> Result<()> {
        let sent = self.send("logs", &[], REQUEST_TIMEOUT);
        let refused = sent.err().and_then(|error| tls::refusal(&error));
        refused.map_or(Ok(()), |cause| {
            Err(Error::other("export connections to", self.name(), cause)
                .hint("--otlp-ca FILE names the authorities that sign its certificate"))
        })
    }

    /// The descriptor of the spool, which is locked against other runs.
    pub fn locked(&self) -> Option<RawFd> {
        self.spool.as_ref().map(OtlpSpool::as_raw_fd)
    }

    /// Why the last request failed, if no receiver was reached.
    pub(super) fn last_failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The target as it was written.
    pub(super) fn name(&self) -> String {
        self.target.to_string()
    }

    /// Posts a request about `signal`: `logs` or `metrics`. It takes at most this time.
    pub(super) fn post(&self, signal: &str, body: &[u8], timeout: Duration) -> OtlpAnswer {
        let (answer, failure) = match self.send(signal, body, timeout) {
            Ok(response) => (answer(response), None),
            Err(error) => (OtlpAnswer::Unreachable, Some(tls::refusal(&error).unwrap_or_else(|| error.to_string()))),
        };
        self.is_stale.store(failure.is_some(), Ordering::Relaxed);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        answer
    }

    fn send(
        &self,
        signal: &str,
        body: &[u8],
        timeout: Duration,
    ) -> std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let request = self.agent.post(self.target.url(signal)).config().timeout_global(Some(timeout)).build();
        let mut request = request.header(header::CONTENT_TYPE, "application/x-protobuf");
        let mut body = Cow::Borrowed(body);
        if self.compresses {
            request = request.header(header::CONTENT_ENCODING, "gzip");
            body = Cow::Owned(gzip(&body)?);
        }
        request.send(&body[..])
    }
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
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
    fn a_url_has_a_default_port() {
        let parse = |text| OtlpTarget::parse(text).map(|target| target.to_string());
        assert_eq!(parse("http://collector.example").as_deref(), Ok("http://collector.example:4318"));
        assert_eq!(parse("http://[::1]:9/otlp/").as_deref(), Ok("http://[::1]:9/otlp"));
        assert_eq!(parse("https://a.example/x").as_deref(), Ok("https://a.example:4318/x"));
        let wrong_ports = ["http://a:0", "http://a:", "http://a:99999", "http://a:80x", "https://[::1]:65536"];
        let wrong_urls = ["collector:4318", "ftp://x", "http://", "http://a b", "http://u@h", "http://h?x"];
        for wrong in wrong_urls.into_iter().chain(wrong_ports) {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_go_to_the_paths_of_the_specification() {
        let target = OtlpTarget::parse("http://collector.example/otlp").expect("a URL");
        assert_eq!(target.url("logs"), "http://collector.example:4318/otlp/v1/logs");
    }
}
