//! What the programs that tell of processes cost: nanoseconds of a connection, of a message, and of
//! any other system call, without them, with them, and with them for a process that is none of the
//! run's.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Instant;

use netwatch::meter::{ProcessTracer, ProcessTracerConfig};

use super::stats::{least, median, pairs};
use super::{Options, cpu};
use crate::Result;

/// Times that a thing is done for one measurement: so many connections fit the ring of events.
const TIMES: u32 = 2_000;

/// What is measured.
struct Case {
    name: &'static str,
    once: Box<dyn FnMut() -> std::io::Result<()>>,
}

/// With which programs, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Without,
    Inside,
    Outside,
    FailedCalls,
}

const SETTINGS: [(Setting, &str); 4] = [
    (Setting::Without, "without"),
    (Setting::Inside, "the run's"),
    (Setting::Outside, "another's"),
    (Setting::FailedCalls, "--failed-calls"),
];

/// Prints a line for each case: medians, and what is over those without.
pub fn run(options: &Options) -> Result {
    let cgroup = Cgroup::new()?;
    set_up(&cgroup, options.rounds)?;
    println!("\nns per call on the loopback, median of {} rounds, and over that without the programs", options.rounds);
    print!("  {:32}", "");
    SETTINGS.iter().for_each(|(_, name)| print!(" {name:>18}"));
    println!();
    for mut case in cases().map_err(|error| format!("cannot make the sockets of the bench: {error}"))? {
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

/// What a run's start and end pay. Loading is done in a thread beside the classifier's.
fn set_up(cgroup: &Cgroup, rounds: usize) -> Result {
    let mut ms = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let directory = cgroup.directory()?;
        let mut took = |step: usize, since: Instant| ms[step].push(since.elapsed().as_secs_f64() * 1e3);
        let started = Instant::now();
        let config = ProcessTracerConfig { cmdline: true, failed_calls: false };
        let mut probe = ProcessTracer::load(config).map_err(|error| error.to_string())?;
        took(0, started);
        let started = Instant::now();
        probe.attach(directory.as_fd()).map_err(|error| error.to_string())?;
        took(1, started);
        let started = Instant::now();
        drop(probe);
        took(2, started);
    }
    let said = ["load", "attach", "detach and unload"].iter().zip(&ms);
    let said: Vec<String> =
        said.map(|(what, ms)| format!("{what} {:.2} ms (least {:.2})", median(ms), least(ms))).collect();
    println!("\nprograms that tell of processes: {}", said.join(", "));
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

fn measure(cgroup: &Cgroup, setting: Setting, case: &mut Case) -> Result<f64> {
    let mut probe = None;
    if setting != Setting::Without {
        let config = ProcessTracerConfig { cmdline: true, failed_calls: setting == Setting::FailedCalls };
        let mut loaded = ProcessTracer::load(config).map_err(|error| error.to_string())?;
        loaded.attach(cgroup.directory()?.as_fd()).map_err(|error| error.to_string())?;
        probe = Some(loaded);
    }
    if setting != Setting::Outside {
        cgroup.enter()?;
    }
    // The first times fill tables and caches.
    let outcome = repeat(case, TIMES / 10).and_then(|_| repeat(case, TIMES));
    cgroup.leave()?;
    if let Some(probe) = &mut probe {
        probe.poll(&mut drop);
    }
    outcome
}

/// The thread's own time, which stands still while other processes have the CPU. What the loopback
/// receives is in it.
fn repeat(case: &mut Case, times: u32) -> Result<f64> {
    let before = cpu::time()?;
    for _ in 0..times {
        (case.once)().map_err(|error| format!("{}: {error}", case.name))?;
    }
    Ok((cpu::time()? - before).as_nanos() as f64 / f64::from(times))
}

fn cases() -> std::io::Result<Vec<Case>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (server, udp) = (listener.local_addr()?, UdpSocket::bind("127.0.0.1:0")?);
    let here = udp.local_addr()?;
    let mut client = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    let mut accepted = listener.accept()?.0;
    Ok(vec![
        Case {
            name: "TCP: connect, accept, close",
            once: Box::new(move || {
                let client = TcpStream::connect(server)?;
                forget(&client)?;
                listener.accept().map(drop)
            }),
        },
        Case {
            name: "UDP: socket, connect, send, close",
            once: Box::new(move || {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(here)?;
                socket.send(b"x").map(drop)
            }),
        },
        Case {
            name: "TCP: send, receive",
            once: Box::new(move || {
                client.write_all(b"x")?;
                accepted.read_exact(&mut [0])
            }),
        },
        Case {
            name: "UDP: send to an address, receive",
            once: Box::new(move || {
                let socket = &udp;
                // What the case before left there may come first.
                socket.send_to(b"x", here)?;
                socket.recv_from(&mut [0]).map(drop)
            }),
        },
        Case {
            name: "getppid",
            once: Box::new(|| {
                // SAFETY: a system call without arguments.
                unsafe { libc::syscall(libc::SYS_getppid) };
                Ok(())
            }),
        },
    ])
}

/// Closing it leaves nothing that waits: ports would run out.
fn forget(stream: &TcpStream) -> std::io::Result<()> {
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

/// A cgroup of the bench's own.
struct Cgroup {
    parent: PathBuf,
    path: PathBuf,
}

impl Cgroup {
    fn new() -> Result<Self> {
        let parent = netwatch::host::cgroup::own()?;
        let path = parent.join(format!("netwatch-bench-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self { parent, path })
    }

    fn directory(&self) -> Result<File> {
        File::open(&self.path).map_err(|error| format!("cannot open {}: {error}", self.path.display()))
    }

    fn enter(&self) -> Result {
        into(&self.path)
    }

    fn leave(&self) -> Result {
        into(&self.parent)
    }
}

/// The whole process goes there.
fn into(cgroup: &std::path::Path) -> Result {
    fs::write(cgroup.join("cgroup.procs"), "0").map_err(|error| format!("cannot enter {}: {error}", cgroup.display()))
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A cgroup with somebody in it would stay.
        let _ = self.leave();
        let _ = fs::remove_dir(&self.path);
    }
}
