//! The cost of the programs that follow processes: nanoseconds per connection, message and other
//! system call, without them, with them, and with them for a process outside the run.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Instant;

use netwatch::meter::{ProcessTracer, ProcessTracerConfig};

use super::stats::{least, median, pairs};
use super::{EngineOptions, cpu};
use crate::Result;

/// Calls per measurement: this number of connections fits into the ring of events.
const TIMES: u32 = 2_000;

/// A call to measure.
struct CallCase {
    name: &'static str,
    once: Box<dyn FnMut() -> std::io::Result<()>>,
}

/// The loaded programs, and whether the caller belongs to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessSetting {
    Without,
    Inside,
    Outside,
    FailedCalls,
}

const SETTINGS: [(ProcessSetting, &str); 4] = [
    (ProcessSetting::Without, "without"),
    (ProcessSetting::Inside, "in the run"),
    (ProcessSetting::Outside, "outside"),
    (ProcessSetting::FailedCalls, "--failed-calls"),
];

/// Prints a line for each case: medians, and the differences to those without.
pub fn run(options: &EngineOptions) -> Result {
    let cgroup = BenchCgroup::new()?;
    set_up(&cgroup, options.rounds)?;
    println!("\nns per call on the loopback, median of {} rounds, and over that without the programs", options.rounds);
    print!("  {:32}", "");
    SETTINGS.iter().for_each(|(_, name)| print!(" {name:>18}"));
    println!();
    for mut case in cases().map_err(|error| format!("cannot create the sockets of the bench: {error}"))? {
        let mut ns = SETTINGS.map(|_| Vec::new());
        for round in 0..options.rounds {
            for step in 0..SETTINGS.len() {
                let at = (round + step) % SETTINGS.len();
                ns[at].push(measure(&cgroup, SETTINGS[at].0, &mut case)?);
            }
        }
        print(case.name, &ns);
    }
    Ok(())
}

/// The cost at the start and end of a run. A run loads the programs in a thread of its own.
fn set_up(cgroup: &BenchCgroup, rounds: usize) -> Result {
    let mut ms = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let directory = cgroup.directory()?;
        let mut took = |step: usize, since: Instant| ms[step].push(since.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        let config = ProcessTracerConfig { cmdline: true, failed_calls: false };
        let mut tracer = ProcessTracer::load(config).map_err(|error| error.to_string())?;
        took(0, started);
        let started = Instant::now();
        tracer.attach(directory.as_fd()).map_err(|error| error.to_string())?;
        took(1, started);
        let started = Instant::now();
        drop(tracer);
        took(2, started);
    }
    let steps = ["load", "attach", "detach and unload"].iter().zip(&ms);
    let texts: Vec<String> =
        steps.map(|(what, ms)| format!("{what} {:.2} ms (least {:.2})", median(ms), least(ms))).collect();
    println!("\nprograms that follow processes: {}", texts.join(", "));
    Ok(())
}

fn print(name: &str, ns: &[Vec<f64>]) {
    print!("  {name:32}");
    for (at, values) in ns.iter().enumerate() {
        let over = median(&pairs(values, &ns[0], |one, without| one - without));
        let text =
            if at == 0 { format!("{:.0}", median(values)) } else { format!("{:.0} {over:+5.0}", median(values)) };
        print!(" {text:>18}");
    }
    println!("   least without {:.0}", least(&ns[0]));
}

fn measure(cgroup: &BenchCgroup, setting: ProcessSetting, case: &mut CallCase) -> Result<f64> {
    let mut tracer = None;
    if setting != ProcessSetting::Without {
        let config = ProcessTracerConfig { cmdline: true, failed_calls: setting == ProcessSetting::FailedCalls };
        let mut loaded = ProcessTracer::load(config).map_err(|error| error.to_string())?;
        loaded.attach(cgroup.directory()?.as_fd()).map_err(|error| error.to_string())?;
        tracer = Some(loaded);
    }
    if setting != ProcessSetting::Outside {
        cgroup.enter()?;
    }
    // The first calls fill tables and caches.
    let outcome = repeat(case, TIMES / 10).and_then(|_| repeat(case, TIMES));
    cgroup.leave()?;
    if let Some(tracer) = &mut tracer {
        tracer.poll(&mut drop);
    }
    outcome
}

/// CPU time of the thread per call, which includes receiving on the loopback.
fn repeat(case: &mut CallCase, times: u32) -> Result<f64> {
    let before = cpu::time()?;
    for _ in 0..times {
        (case.once)().map_err(|error| format!("{}: {error}", case.name))?;
    }
    Ok((cpu::time()? - before).as_nanos() as f64 / f64::from(times))
}

fn cases() -> std::io::Result<Vec<CallCase>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (server, udp) = (listener.local_addr()?, UdpSocket::bind("127.0.0.1:0")?);
    let here = udp.local_addr()?;
    let mut client = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    let mut accepted = listener.accept()?.0;
    Ok(vec![
        CallCase {
            name: "TCP: connect, accept, close",
            once: Box::new(move || {
                let client = TcpStream::connect(server)?;
                reset_on_close(&client)?;
                listener.accept().map(drop)
            }),
        },
        CallCase {
            name: "UDP: socket, connect, send, close",
            once: Box::new(move || {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(here)?;
                socket.send(b"x").map(drop)
            }),
        },
        CallCase {
            name: "TCP: send, receive",
            once: Box::new(move || {
                client.write_all(b"x")?;
                accepted.read_exact(&mut [0])
            }),
        },
        CallCase {
            name: "UDP: send to an address, receive",
            once: Box::new(move || {
                let socket = &udp;
                // A datagram of the previous case may arrive first.
                socket.send_to(b"x", here)?;
                socket.recv_from(&mut [0]).map(drop)
            }),
        },
        CallCase {
            name: "getppid",
            once: Box::new(|| {
                // SAFETY: a system call without arguments.
                unsafe { libc::syscall(libc::SYS_getppid) };
                Ok(())
            }),
        },
    ])
}

/// Makes close reset the connection: sockets in TIME_WAIT would use up the ports.
fn reset_on_close(stream: &TcpStream) -> std::io::Result<()> {
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's own type and its size.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const now).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A cgroup of the bench.
struct BenchCgroup {
    parent: PathBuf,
    path: PathBuf,
}

impl BenchCgroup {
    fn new() -> Result<Self> {
        let parent = netwatch::host::cgroup::own()?.path;
        let path = parent.join(format!("netwatch-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Self { parent, path })
    }

    fn directory(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| format!("cannot open {}: {error}", self.path.display()))
    }

    fn enter(&self) -> Result {
        move_to(&self.path)
    }

    fn leave(&self) -> Result {
        move_to(&self.parent)
    }
}

/// Moves this process into a cgroup.
fn move_to(cgroup: &std::path::Path) -> Result {
    fs::write(cgroup.join("cgroup.procs"), "0").map_err(|error| format!("cannot enter {}: {error}", cgroup.display()))
}

impl Drop for BenchCgroup {
    fn drop(&mut self) {
        // A cgroup that contains a process cannot be removed.
        let _ = self.leave();
        let _ = fs::remove_dir(&self.path);
    }
}
