//! The command line of `netwatch attach`.

use std::time::Duration;

use clap::{ArgGroup, Args, value_parser};

use super::capture::{CAPTURE, CaptureArgs};
use super::run::{LinesArg, parse_lines};
use super::session::{METERING, SessionArgs};
use crate::error::Result;
use crate::settings::value::parse_time;
use crate::settings::{AttachSettings, AttachTarget};

/// Flags that name a target.
const TARGETS: [&str; 6] = ["netns", "pid", "container", "unit", "cgroup", "interface"];

#[derive(Debug, Args)]
#[command(after_help = AFTER, after_long_help = AFTER_LONG)]
#[command(group(ArgGroup::new("target").required(true).multiple(true).args(TARGETS)))]
pub(super) struct AttachArgs {
    /// Network namespace: a name of `ip netns`, or a path (repeatable)
    ///
    /// Every interface of the namespace and its loopback, also those that appear later. Ends when
    /// the name or the path is gone.
    #[arg(short = 'N', long, value_name = "NETNS")]
    netns: Vec<String>,

    /// Network namespace of a process, or its cgroup (repeatable)
    ///
    /// The whole namespace, with its other processes. If it is that of netwatch, the sockets of the
    /// process's cgroup, which must hold no other processes than its descendants. Ends with the
    /// process.
    #[arg(short, long, value_name = "PID", value_parser = value_parser!(u32).range(1..))]
    pid: Vec<u32>,

    /// Only the sockets of -p and its descendants, not of others in the cgroup
    ///
    /// Those that the process has, those that it and its descendants create, and the connections
    /// that these accept.
    #[arg(long, requires = "pid", conflicts_with_all = ["netns", "container", "unit", "cgroup", "interface"])]
    pid_only: bool,

    /// Network namespace of a container, by its name or id (repeatable)
    ///
    /// Of Docker, podman, containerd, CRI-O and Kubernetes (POD or POD/CONTAINER), from cgroups and
    /// state files. A part of the id is enough. If it uses the network of the host, its cgroup.
    #[arg(long, value_name = "NAME|ID")]
    container: Vec<String>,

    /// Sockets of a systemd unit: NAME.service (repeatable)
    ///
    /// Those of its cgroup. `.service` may be left out. Ends when the unit stops.
    #[arg(long, value_name = "NAME")]
    unit: Vec<String>,

    /// Sockets of a cgroup v2 (repeatable)
    ///
    /// And of the cgroups below. A path below /sys/fs/cgroup, or as in /proc/PID/cgroup. Ends when
    /// the cgroup is removed.
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,

    /// Interface of this network namespace (repeatable)
    ///
    /// Sent is what the interface sends. An interface that disappears is attached to again when it
    /// is back.
    #[arg(short, long, value_name = "IFACE")]
    interface: Vec<String>,

    /// The target is at the other end of -i: sent is what the interface receives
    ///
    /// For the host's end of the link of a container or a virtual machine.
    #[arg(long, requires = "interface")]
    peer: bool,

    /// End after this time: 30s, 5m, 1h30m
    ///
    /// Otherwise netwatch ends with Ctrl-C, or when the target ends. The maximum is 3650d.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    duration: Option<Duration>,

    #[command(flatten)]
    session: SessionArgs,

    /// Show a live view of the session; quitting it ends the session
    ///
    /// The view of `netwatch top`. `netwatch help live` lists the keys.
    #[arg(long, help_heading = METERING)]
    tui: bool,

    /// Print a line for each packet, on standard error or to FILE
    ///
    /// As tcpdump does, and with the direction, the process and the name of the remote. Not for
    /// cgroups.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "-",
        value_parser = parse_lines,
        env = "NETWATCH_PACKETS",
        help_heading = CAPTURE
    )]
    packets: Option<LinesArg>,

    #[command(flatten)]
    capture: CaptureArgs,

    /// The command line has `-w` or `--packets`.
    #[arg(skip)]
    pub(super) is_capture_typed: bool,
}

const AFTER: &str = "`netwatch attach --help` has the details, the exit codes and the signals.";

const AFTER_LONG: &str = "\
Examples:
  sudo netwatch attach -N web --duration 1m              a namespace of `ip netns`, for a minute
  sudo netwatch attach --container shop                  a container of Docker, podman or Kubernetes
  sudo netwatch attach -p 4242                           a process
  sudo netwatch attach --unit nginx                      a service of systemd
  sudo netwatch attach -i eth0 -j -o net.json            an interface, the report as JSON
  sudo netwatch attach -i veth7 --peer                   what is behind the host's end of a link
  sudo netwatch attach --container db -w db.pcapng       its packets, for Wireshark

Nothing of the target changes, and nothing is left if netwatch is killed. Needs Linux 6.6, for
cgroups 6.1. `netwatch help attaching` describes what is counted and what is not.

Exit code: 0, also after Ctrl-C and SIGTERM; 121 if a condition of --fail-if holds; 2 on error.

Signals: SIGINT, SIGQUIT, SIGTERM and SIGHUP end with a report. SIGUSR1 prints an interim report.

Environment: the flags that `run` has too can be set as NETWATCH_<FLAG>; `netwatch help reference`
lists the variables.";

impl AttachArgs {
    pub(super) fn settings(self) -> Result<AttachSettings> {
        let words = self.words();
        let (is_peer, only_processes) = (self.peer, self.pid_only);
        let namespaces = self.netns.into_iter().map(AttachTarget::Namespace);
        let processes = self.pid.into_iter().map(AttachTarget::Process);
        let containers = self.container.into_iter().map(AttachTarget::Container);
        let interfaces = self.interface.into_iter().map(|name| AttachTarget::Interface { name, is_peer });
        let units = self.unit.into_iter().map(AttachTarget::Unit);
        let cgroups = self.cgroup.into_iter().map(AttachTarget::Cgroup);
        let targets =
            namespaces.chain(processes).chain(containers).chain(units).chain(cgroups).chain(interfaces).collect();
        let session = self.session.settings()?;
        let capture = self.capture.settings(self.packets.and_then(LinesArg::target));
        let (duration, in_view, is_capture_typed) = (self.duration, self.tui, self.is_capture_typed);
        Ok(AttachSettings { session, targets, only_processes, duration, in_view, capture, is_capture_typed, words })
    }

    fn words(&self) -> Vec<String> {
        let flags = |flag: &'static str, values: &[String]| {
            values.iter().flat_map(|value| [flag.to_owned(), value.clone()]).collect::<Vec<_>>()
        };
        let peer = self.peer.then(|| "--peer".to_owned());
        let pids: Vec<String> = self.pid.iter().map(u32::to_string).collect();
        [
            flags("-N", &self.netns),
            flags("-p", &pids),
            self.pid_only.then(|| "--pid-only".to_owned()).into_iter().collect(),
            flags("--container", &self.container),
            flags("--unit", &self.unit),
            flags("--cgroup", &self.cgroup),
            flags("-i", &self.interface),
            peer.into_iter().collect(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct AttachCommand {
        #[command(flatten)]
        arguments: AttachArgs,
    }

    fn settings(words: &[&str]) -> Option<AttachSettings> {
        let words = std::iter::once(&"attach").chain(words);
        AttachCommand::try_parse_from(words).ok().map(|command| command.arguments.settings().expect("valid"))
    }

    #[test]
    fn several_targets_are_metered_at_once() {
        let words = ["-i", "veth0", "-N", "web", "-p", "7", "-i", "veth1", "--peer", "--container", "db"];
        let settings = settings(&words).expect("valid");
        let interface = |name: &str| AttachTarget::Interface { name: name.to_owned(), is_peer: true };
        let expected = [
            AttachTarget::Namespace("web".to_owned()),
            AttachTarget::Process(7),
            AttachTarget::Container("db".to_owned()),
            interface("veth0"),
            interface("veth1"),
        ];
        assert_eq!(settings.targets, expected);
        assert_eq!(settings.words.join(" "), "-N web -p 7 --container db -i veth0 -i veth1 --peer");
    }

    #[test]
    fn only_processes_can_be_selected() {
        let settings = settings(&["-p", "7", "--pid-only", "-p", "8"]).expect("valid");
        assert_eq!(settings.targets, [AttachTarget::Process(7), AttachTarget::Process(8)]);
        assert!(settings.only_processes);
        assert_eq!(settings.words.join(" "), "-p 7 -p 8 --pid-only");
    }

    #[test]
    fn a_target_is_needed() {
        let alone = [&["--duration", "1s"][..], &["--peer", "-N", "web"], &["-p", "0"], &["--pid-only"]];
        let mixed = [&["--pid-only", "-N", "web"][..], &["--pid-only", "-p", "7", "-i", "eth0"]];
        for words in alone.into_iter().chain(mixed) {
            assert_eq!(settings(words), None, "{words:?}");
        }
    }
}
