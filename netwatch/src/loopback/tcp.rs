//! Connections to the TCP services. Each direction is passed on until its sender closes it, so a
//! half-closed connection stays half-closed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::thread::ProxyShared;
use crate::report::HostService;

/// Bytes that a direction of a connection holds in addition to the buffers of the kernel.
const BUFFER_BYTES: usize = 16 * 1024;

/// Pause after a failed accept (too many open files), so that the loop does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Serves a socket until the run ends, and then until its connections have passed on what the
/// command sent.
pub(super) async fn serve(listener: TcpListener, service: HostService, proxy: ProxyShared) {
    let mut connections = JoinSet::new();
    let mut ending = pin!(proxy.ending());
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    // Meanwhile further clients wait in the backlog of the socket.
                    let slot = proxy.slot().await;
                    connections.spawn(serve_connection(client, service, slot, proxy.clone()));
                }
                Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = &mut ending => break,
        }
    }
    drop(listener);
    connections.join_all().await;
}

async fn serve_connection(
    mut client: TcpStream,
    service: HostService,
    _slot: OwnedSemaphorePermit,
    proxy: ProxyShared,
) {
    let mut host = match connect(service.address).await {
        Ok(host) => host,
        Err(error) => {
            proxy.counts.refuse(service, &error);
            return reset_on_close(&client);
        }
    };
    let _open = proxy.counts.open_connection();
    if relay(&mut client, &mut host, &proxy).await.is_err() {
        reset_on_close(&client);
        reset_on_close(&host);
    }
}

/// Connects to the service, or to the other loopback address if that refuses: a program that tries
/// ::1 first would not try 127.0.0.1 after a connection that the proxy has accepted.
async fn connect(service: SocketAddr) -> io::Result<TcpStream> {
    match (TcpStream::connect(service).await, other_loopback(service)) {
        (Err(error), Some(other)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            TcpStream::connect(other).await.map_err(|_| error)
        }
        (connected, _) => connected,
    }
}

fn other_loopback(service: SocketAddr) -> Option<SocketAddr> {
    let other: IpAddr = match service.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Ipv4Addr::LOCALHOST.into(),
        _ => return None,
    };
    Some(SocketAddr::new(other, service.port()))
}

/// Passes on both directions. After the end of the run, no process of the command can receive, so
/// only what the command has sent is still passed on.
async fn relay(client: &mut TcpStream, host: &mut TcpStream, proxy: &ProxyShared) -> io::Result<()> {
    let (from_client, to_client) = client.split();
    let (from_host, to_host) = host.split();
    let (ending, never) = (pin!(proxy.ending()), pin!(std::future::pending()));
    let up = pass_on(from_client, to_host, ending);
    let down = async {
        tokio::select! {
            passed = pass_on(from_host, to_client, never) => passed,
            () = proxy.ending() => Ok(()),
        }
    };
    tokio::try_join!(up, down).map(drop)
}

/// Passes on one direction until its sender closes it, or `ending` is ready and nothing is left to
/// read.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut ending: Pin<&mut impl Future<Output = ()>>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read?,
            () = &mut ending => 0,
        };
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// Makes closing this socket send a reset, as the connection on the other side was reset.
fn reset_on_close(stream: &TcpStream) {
    // Does not fail for an open socket.
    let _ = setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}
