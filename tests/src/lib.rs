//! The test harness: a small internet made of network namespaces, and functions that run netwatch
//! in it. The tests are in `tests/run`.
//!
//! ```text
//! inet ── 198.51.100.0/24, 2001:db8::/64 ── host ── (namespace of a run)
//! DNS, HTTP, HTTPS, echo, sink, source,      netwatch runs here, with an uplink, a resolv.conf
//! iperf3, a refusing and a silent port       and a /run, /etc, /sys of its own
//! ```
//!
//! All namespaces are anonymous (no `ip netns add`), so the kernel removes them when the process
//! that made them ends, also when it is killed. A test is three lines:
//!
//! ```no_run
//! # use netwatch_tests::internet;
//! # fn passes_the_exit_code_on() {
//! let net = internet!();
//! let run = net.host.watch(&["sh", "-c", "exit 7"]);
//! assert_eq!(run.code, Some(7), "{run}");
//! # }
//! ```

pub mod addresses;
mod advertise;
mod frames;
mod host;
mod inherited;
mod internet;
mod namespace;
mod netwatch_binary;
mod probes;
mod random;
pub mod report;
mod run;
mod servers;
mod skip;
mod state;
pub mod storm;
mod terminal;
mod tmux;
mod traffic_servers;
mod wait;

pub use frames::{FrameCount, FrameCounter, FrameCounts};
pub use host::{MOMENTS, TestHost, USER, USER_ID};
pub use inherited::command;
pub use internet::{HostIpv6, InternetShape, TestInternet};
pub use namespace::TestNamespace;
pub use netwatch_binary::{binary, faulty_binary};
pub use probes::NeighborProbes;
pub use random::Random;
pub use run::{FinishedRun, RunningNetwatch, StartOptions};
pub use skip::{missing, missing_tool, skip};
pub use state::HostSnapshot;
pub use terminal::Terminal;
pub use tmux::Tmux;
pub use wait::{Gate, eventually, wait_until};

/// Creates a [`TestInternet`], or returns from the test with `skipped: REASON` where the machine
/// does not support it. With `NETWATCH_TESTS_NO_SKIP=1` the test fails instead.
#[macro_export]
macro_rules! internet {
    () => {
        $crate::internet!($crate::InternetShape::default())
    };
    ($shape:expr) => {{
        if let Some(why) = $crate::missing() {
            return $crate::skip(&why);
        }
        $crate::TestInternet::start($shape)
    }};
}

/// Returns from the test with `skipped: REASON` when a program that it uses is not installed.
#[macro_export]
macro_rules! needs {
    ($($tool:expr),+) => {
        $(if let Some(why) = $crate::missing_tool($tool) {
            return $crate::skip(&why);
        })+
    };
}
