//! TLS to receivers: which certificates are accepted, and why one was not.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Gid, Uid};
use rustls::CertificateError;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::error::{Error, Result};
use crate::rights::as_user;

/// Names a file with the authorities of the system, as for OpenSSL and others.
const VARIABLE: &str = "SSL_CERT_FILE";
/// Maximum length of a file of authorities. Those of distributions have a quarter of a megabyte.
const MAX_AUTHORITIES_BYTES: u64 = 16 << 20;
/// Where distributions have that file.
const SYSTEM_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Accepts certificates of the authorities in this file, or in that of the system.
pub(super) fn config(file: Option<&Path>, owner: (Uid, Gid)) -> Result<TlsConfig> {
    let path = file.map_or_else(system_file, |file| Ok(file.to_owned()))?;
    let name = path.display().to_string();
    let text = as_user(owner, || read(&path).map_err(|cause| Error::os("read", name.clone(), cause)))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
            Ok(_) => None,
            Err(cause) => Some(Err(Error::other("read certificates of", name.clone(), cause.to_string()))),
        })
        .collect::<Result<_>>()?;
    if certificates.is_empty() {
        return Err(Error::other("read certificates of", name, "it has none").hint("the file has to be PEM"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCerts::new_with_certs(&certificates);
    Ok(TlsConfig::builder().unversioned_rustls_crypto_provider(provider).root_certs(roots).build())
}

/// Reads a file that may also be a pipe. A device without an end would fill the memory.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(MAX_AUTHORITIES_BYTES + 1).read_to_end(&mut text)?;
    match text.len() as u64 > MAX_AUTHORITIES_BYTES {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 16 MiB")),
        false => Ok(text),
    }
}

fn system_file() -> Result<PathBuf> {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    let found = named.or_else(|| SYSTEM_FILES.iter().map(PathBuf::from).find(|file| file.exists()));
    found.ok_or_else(|| {
        Error::other("find", "the certificate authorities of the system", "there is no file of them")
            .hint("install ca-certificates, or name a file with --otlp-ca")
    })
}

/// Why TLS with a receiver failed, if it did.
pub(super) fn refusal(error: &ureq::Error) -> Option<String> {
    let tls = match error {
        ureq::Error::Rustls(tls) => tls,
        // rustls reports what happens in the handshake as an I/O error.
        ureq::Error::Io(io) => {
            let inner: &(dyn std::error::Error + 'static) = io.get_ref()?;
            inner.downcast_ref().or_else(|| inner.source()?.downcast_ref())?
        }
        ureq::Error::Tls(cause) => return Some((*cause).to_owned()),
        _ => return None,
    };
    Some(match tls {
        rustls::Error::InvalidCertificate(cause) => match cause {
            CertificateError::UnknownIssuer => "its certificate is of no known authority".to_owned(),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: check the clock".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name".to_owned()
            }
            // As `openssl req -x509` makes them by default.
            CertificateError::Other(cause) if cause.to_string().contains("CaUsedAsEndEntity") => {
                "its certificate is that of an authority (CA:TRUE), which may only sign others".to_owned()
            }
            cause => format!("its certificate is not valid: {cause}"),
        },
        rustls::Error::InvalidMessage(_) => "it does not use TLS at this port".to_owned(),
        other => other.to_string(),
    })
}
