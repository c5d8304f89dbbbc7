//! TLS with receivers whose certificates are accepted and refused, and compressed requests. The
//! certificates in the folder `certificates` are those of an authority of the tests.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use flate2::read::GzDecoder;
use nix::unistd::{Gid, Uid};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::tests::{WAIT_TIMEOUT, ended, response};
use super::*;

fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/consumer/otlp/certificates").join(name)
}

/// A receiver with this certificate, which accepts every request, and its URL.
fn receiver(name: &str) -> (String, Receiver<(String, Vec<u8>)>) {
    let read = |name| CertificateDer::from_pem_file(certificate(name)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(certificate("key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![read(name)], key).expect("a certificate with its key"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let (requests, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).expect("a connection");
            let mut stream = StreamOwned::new(connection, stream.expect("a connection"));
            while let Some(request) = request(&mut stream) {
                // Both fail when the test has ended.
                let _ = requests.send(request);
                let _ = stream.write_all(&response("200 OK", "", b""));
            }
        }
    });
    (url, received)
}

/// The head and the body of the next request; `None` at the end.
fn request(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}

fn find(url: &str, authorities: &str, compresses: bool) -> Result<OtlpReceiver> {
    let options = OtlpOptions { authorities: Some(certificate(authorities)), compresses, spool: None };
    OtlpReceiver::find(&OtlpTarget::parse(url).expect("a URL"), &options, (Uid::effective(), Gid::effective()))
}

#[test]
fn records_reach_a_receiver_with_tls_also_compressed() {
    for compresses in [false, true] {
        let (url, received) = receiver("receiver.pem");
        let mut otlp = Otlp::new(find(&url, "authority.pem", compresses).expect("accepted"));
        otlp.consume((1..=1000).map(ended).collect()).expect("posted");
        otlp.finish(&StreamEnd::Abandoned).expect("nothing was dropped");
        let mut bodies = Vec::new();
        while bodies.is_empty() {
            let (head, body) = received.recv_timeout(WAIT_TIMEOUT).expect("a request");
            assert_eq!(head.contains("content-encoding: gzip"), compresses, "{head}");
            let mut plain = body.clone();
            if compresses {
                plain.clear();
                GzDecoder::new(&body[..]).read_to_end(&mut plain).expect("gzip");
            }
            // The first request has no record: it verifies the certificate.
            if !plain.is_empty() {
                bodies.push((body.len(), plain));
            }
        }
        let (length, plain) = bodies.remove(0);
        let request = ExportLogsServiceRequest::decode(&plain[..]).expect("a request");
        assert_eq!(request.resource_logs[0].scope_logs[0].log_records.len(), 1000);
        assert!(!compresses || length < plain.len() / 4, "{length} of {}", plain.len());
    }
}

#[test]
fn a_certificate_that_is_refused_is_an_error_before_the_start() {
    for (name, cause) in
        [("expired.pem", "its certificate has expired"), ("other.pem", "its certificate is for another name")]
    {
        let (url, _received) = receiver(name);
        let error = find(&url, "authority.pem", false).expect_err("refused").to_string();
        assert!(error.contains(&format!("{url}: {cause}")), "{error}");
    }
    let (url, _received) = receiver("receiver.pem");
    let error = find(&url, "other.pem", false).expect_err("refused").to_string();
    assert!(error.contains("its certificate is of no known authority"), "{error}");
}

#[test]
fn files_without_certificates_are_errors() {
    let url = "https://127.0.0.1:1";
    let error = find(url, "nothere.pem", false).expect_err("no file").to_string();
    assert!(error.starts_with("cannot read ") && error.contains("nothere.pem: "), "{error}");
    let error = find(url, "key.pem", false).expect_err("a key").to_string();
    assert!(error.contains("key.pem: it has none"), "{error}");
    let error = find(url, "/dev/zero", false).expect_err("no end").to_string();
    assert!(error.contains("/dev/zero: it is larger than 16 MiB"), "{error}");
}

/// It may be there later; a port without TLS will not.
#[test]
fn a_receiver_without_tls_is_an_error_and_a_dead_one_is_not() {
    let plain = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("https://{}", plain.local_addr().expect("an address"));
    let server = thread::spawn(move || {
        let (mut stream, _) = plain.accept().expect("a connection");
        // The client may be gone.
        let _ = stream.write_all(&response("400 Bad Request", "", b""));
        let _ = stream.read(&mut [0; 1024]);
    });
    let error = find(&url, "authority.pem", false).expect_err("refused").to_string();
    assert!(error.contains("it does not use TLS at this port"), "{error}");
    server.join().expect("served");
    let mut otlp = Otlp::new(find(&url, "authority.pem", false).expect("it may be there later"));
    otlp.consume(vec![ended(1)]).expect("never fails");
    let error = otlp.finish(&StreamEnd::Abandoned).expect_err("dropped");
    assert!(error.to_string().contains(NOT_REACHED), "{error}");
    assert!(format!("{error:?}").contains("the last request failed"), "{error:?}");
}
