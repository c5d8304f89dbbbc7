//! The HTTP server of the metrics: a thread with an event loop, a bounded number of connections,
//! and a time limit for each.

use std::fs;
use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use super::families::{self, OwnNumbers};
use super::request::{MAX_HEAD_BYTES, Request};
use super::{SharedModel, lock};
use crate::error::{Error, Result};

/// Connections that are served at the same time; further ones are closed at once.
const MAX_CONNECTIONS: usize = 16;
/// The time that a scraper has for its request, and for reading the response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, so that a lack of descriptors causes no load.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves metrics until it is dropped.
#[derive(Debug)]
pub(super) struct MetricsServer {
    /// Closed to stop the thread.
    _stop: oneshot::Sender<()>,
}

/// What the connections have in common.
#[derive(Debug)]
struct ServerState {
    model: SharedModel,
    places: Semaphore,
    scrapes: AtomicU64,
    refused: AtomicU64,
}

impl MetricsServer {
    /// Starts the thread. The listener must not block.
    pub(super) fn start(listener: StdListener, model: SharedModel) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| Error::os("start", "the server of metrics", error))?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(|error| Error::os("serve", "metrics", error))?
        };
        let (stop, stopped) = oneshot::channel();
        let shared = ServerState {
            model,
            places: Semaphore::new(MAX_CONNECTIONS),
            scrapes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        };
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, Arc::new(shared)) => {}
                }
            });
        };
        let thread = thread::Builder::new().name("metrics-http".into()).spawn(serve);
        thread.map_err(|error| Error::os("start thread", "metrics-http", error))?;
        Ok(Self { _stop: stop })
    }
}

async fn accept(listener: TcpListener, shared: Arc<ServerState>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let Ok(_place) = shared.places.try_acquire() else {
                shared.refused.fetch_add(1, Ordering::Relaxed);
                return;
            };
            // A scraper that disconnects or is too slow misses its response, and nothing else.
            let _ = timeout(CONNECTION_TIMEOUT, serve(stream, &shared)).await;
        });
    }
}

async fn serve(mut stream: TcpStream, shared: &ServerState) -> io::Result<()> {
    let Some(head) = read_head(&mut stream).await? else { return Ok(()) };
    let response = Request::parse(&head).respond(|format| {
        let scrapes = shared.scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let own = OwnNumbers { scrapes, refused: shared.refused.load(Ordering::Relaxed), ..usage() };
        families::write(&lock(&shared.model), &own, format)
    });
    stream.write_all(&response).await?;
    stream.shutdown().await
}

/// The head of the request, without the empty line; `None` if the connection was closed before. A
/// head that is too long is returned without its end, and is malformed.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    let mut part = [0; 1024];
    loop {
        let length = stream.read(&mut part).await?;
        if length == 0 {
            return Ok(None);
        }
        head.extend_from_slice(&part[..length]);
        if let Some(end) = head.windows(END.len()).position(|bytes| bytes == END) {
            head.truncate(end);
            return Ok(Some(head));
        }
        if head.len() > MAX_HEAD_BYTES {
            return Ok(Some(Vec::new()));
        }
    }
}

/// CPU time and memory of this process.
fn usage() -> OwnNumbers {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::unistd::{SysconfVar, sysconf};
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok());
    OwnNumbers {
        cpu_seconds: usage.map(|usage| seconds(usage.user_time()) + seconds(usage.system_time())),
        memory_bytes: pages.zip(page_bytes).map(|(pages, bytes)| pages * bytes),
        ..OwnNumbers::default()
    }
}
