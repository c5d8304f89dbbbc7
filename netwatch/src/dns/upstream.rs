//! The resolvers that the forwarder queries: the host's, updated when its resolv.conf changes, or
//! those given with `--dns`.

use std::fs::{self, Metadata};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::resolv_conf::{Nameserver, ResolvConf, TrustAd};
use super::resolver::scope_id;
use crate::wire::port;

/// The kernel sets file times from its coarse clock (ticks of at most 10 ms), so two writes within
/// one tick result in the same stamp. A file that was read less than this after its last change is
/// read again.
const FILE_TIME_RESOLUTION: Duration = Duration::from_millis(20);

/// The resolvers to query, in order, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolvers {
    /// Their addresses and ports.
    pub addresses: Vec<SocketAddr>,
    /// Timeout of one resolution, for all resolvers together. It is a little less than the client's
    /// timeout, so that the client receives a failure before it sends its query again.
    pub timeout: Duration,
}

/// The source of the resolvers, and the resolvers as last read from it.
#[derive(Debug)]
pub struct Upstream {
    source: ResolverSource,
    conf: ResolvConf,
    current: Arc<Resolvers>,
}

#[derive(Debug)]
enum ResolverSource {
    /// A resolv.conf, and its stamp when it was last read; `None` if a later change might not alter
    /// the stamp.
    Host {
        path: PathBuf,
        last_read: Option<FileStamp>,
    },
    Fixed(Vec<SocketAddr>),
}

/// What stat(2) reports of a file. Equal stamps mean equal contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Upstream {
    /// The host's own resolvers.
    pub fn host() -> Self {
        Self::at(Path::new("/etc/resolv.conf"))
    }

    /// The resolvers of another resolv.conf.
    pub fn at(path: &Path) -> Self {
        Self::new(ResolverSource::Host { path: path.to_owned(), last_read: None }, read(path).unwrap_or_default())
    }

    /// Exactly these resolvers. The `search` and `options` lines are still the host's, as they are
    /// now.
    pub fn fixed(addresses: Vec<SocketAddr>) -> Self {
        Self::new(ResolverSource::Fixed(addresses), read(Path::new("/etc/resolv.conf")).unwrap_or_default())
    }

    fn new(source: ResolverSource, conf: ResolvConf) -> Self {
        let current = Arc::new(resolvers(&source, &conf));
        Self { source, conf, current }
    }

    /// The resolvers at this moment. Costs one stat(2) of the host's file, about a microsecond,
    /// unless the file has changed.
    pub fn resolvers(&mut self) -> Arc<Resolvers> {
        if let ResolverSource::Host { path, last_read } = &mut self.source
            && let Some(conf) = changed(path, last_read)
        {
            self.conf = conf;
            self.current = Arc::new(resolvers(&self.source, &self.conf));
        }
        Arc::clone(&self.current)
    }

    /// The target's resolv.conf: the name server is `gateway`, the `search` and `options` lines are
    /// the host's as last read.
    pub fn render(&self, gateway: IpAddr) -> Vec<u8> {
        let trust_ad = match self.source {
            ResolverSource::Host { .. } => TrustAd::Keep,
            ResolverSource::Fixed(_) => TrustAd::Remove,
        };
        self.conf.render(gateway, trust_ad)
    }
}

/// The content of the file, if it has changed since `last_read`. A missing file counts as an empty
/// one, as for glibc; one that cannot be read for another reason counts as unchanged.
fn changed(path: &Path, last_read: &mut Option<FileStamp>) -> Option<ResolvConf> {
    let stamp = match fs::metadata(path) {
        Ok(metadata) => Some(FileStamp::of(&metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => return None,
    };
    if stamp.is_some() && stamp == *last_read {
        return None;
    }
    let conf = read(path)?;
    *last_read = stamp.filter(FileStamp::is_settled);
    Some(conf)
}

/// `None` if the file exists and cannot be read.
fn read(path: &Path) -> Option<ResolvConf> {
    match fs::read(path) {
        Ok(text) => Some(ResolvConf::parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(ResolvConf::default()),
        Err(_) => None,
    }
}

fn resolvers(source: &ResolverSource, conf: &ResolvConf) -> Resolvers {
    let addresses = match source {
        ResolverSource::Fixed(addresses) => addresses.clone(),
        ResolverSource::Host { .. } => listed(conf),
    };
    Resolvers { addresses, timeout: conf.timeout() * 9 / 10 }
}

/// Without a usable `nameserver` line, the host itself: glibc queries 127.0.0.1 then, and Go's
/// resolver also ::1, so both are queried.
fn listed(conf: &ResolvConf) -> Vec<SocketAddr> {
    let addresses: Vec<_> = conf.nameservers.iter().filter_map(address).collect();
    if addresses.is_empty() {
        return vec![(Ipv4Addr::LOCALHOST, port::DNS).into(), (Ipv6Addr::LOCALHOST, port::DNS).into()];
    }
    addresses
}

/// `None` if the interface of its scope does not exist.
fn address(server: &Nameserver) -> Option<SocketAddr> {
    match (server.address, &server.scope) {
        (IpAddr::V6(ip), Some(scope)) => Some(SocketAddrV6::new(ip, port::DNS, 0, scope_id(scope)?).into()),
        (ip, _) => Some(SocketAddr::new(ip, port::DNS)),
    }
}

impl FileStamp {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    fn is_settled(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = UNIX_EPOCH + Duration::new(seconds.max(0).unsigned_abs(), nanos.unsigned_abs() as u32);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > FILE_TIME_RESOLUTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(upstream: &mut Upstream) -> String {
        upstream.resolvers().addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn follows_the_file_however_it_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let mut upstream = Upstream::at(&path);
        assert_eq!(shown(&mut upstream), "127.0.0.1:53 [::1]:53", "missing");
        fs::write(&path, "nameserver 198.51.100.1\n").unwrap();
        assert_eq!(shown(&mut upstream), "198.51.100.1:53", "created");
        fs::write(&path, "nameserver 198.51.100.2\n").unwrap();
        assert_eq!(shown(&mut upstream), "198.51.100.2:53", "rewritten at once, same size");
        let other = dir.path().join("new");
        fs::write(&other, "nameserver 2001:db8::1\noptions timeout:2\nsearch a.example\n").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(shown(&mut upstream), "[2001:db8::1]:53", "replaced");
        assert_eq!(upstream.resolvers().timeout, Duration::from_millis(1800));
        assert!(upstream.render("198.51.100.9".parse().unwrap()).ends_with(b"search a.example\n"));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert_eq!(shown(&mut upstream), "127.0.0.1:53 [::1]:53", "dangling");
    }

    #[test]
    fn trust_ad_is_removed_for_resolvers_given_by_option() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        fs::write(&path, "nameserver 198.51.100.1\noptions trust-ad edns0\n").unwrap();
        let mut upstream = Upstream::at(&path);
        let gateway = "198.51.100.9".parse().unwrap();
        assert!(upstream.render(gateway).ends_with(b"options trust-ad edns0\n"));
        upstream.source = ResolverSource::Fixed(Vec::new());
        assert!(upstream.render(gateway).ends_with(b"options edns0\n"));
    }
}
