//! The addresses of a receiver: those that were found before the run, until a request fails. ureq
//! resolves for each request, in a thread that can outlive it. Before the guardian is forked there
//! may be no other thread, and later a name server that is slow would delay every request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Maximum number of addresses that ureq tries.
const MAX_ADDRESSES: usize = 16;

/// Resolves the host of one receiver.
#[derive(Debug)]
pub(super) struct OtlpResolver {
    found: Mutex<Vec<SocketAddr>>,
    /// Resolve again: a receiver that does not answer may have moved.
    pub(super) is_stale: Arc<AtomicBool>,
}

impl OtlpResolver {
    /// Begins with the addresses that were found before the run.
    pub(super) fn new(found: Vec<SocketAddr>) -> Self {
        Self { found: Mutex::new(found), is_stale: Arc::default() }
    }
}

impl Resolver for OtlpResolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stale.load(Ordering::Relaxed) {
            // Without an answer, the receiver may still be where it was.
            if let Ok(addresses) = DefaultResolver::default().resolve(uri, config, timeout) {
                *found = addresses.to_vec();
            }
        }
        let mut addresses = self.empty();
        found.iter().take(MAX_ADDRESSES).for_each(|address| addresses.push(*address));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use ureq::Timeout;
    use ureq::unversioned::transport::time::Duration;

    use super::*;

    #[test]
    fn the_host_is_resolved_again_only_after_a_failure() {
        let found = "127.0.0.1:9".parse().expect("an address");
        let resolver = OtlpResolver::new(vec![found]);
        let uri = Uri::from_static("http://192.0.2.1:4318/v1/logs");
        let resolved = || {
            let after = Duration::Exact(std::time::Duration::from_secs(60));
            let timeout = NextTimeout { after, reason: Timeout::Global, per_read: None, per_write: None };
            resolver.resolve(&uri, &Config::default(), timeout).expect("resolved").to_vec()
        };
        assert_eq!(resolved(), [found]);
        resolver.is_stale.store(true, Ordering::Relaxed);
        assert_eq!(resolved(), ["192.0.2.1:4318".parse().expect("an address")]);
    }
}
