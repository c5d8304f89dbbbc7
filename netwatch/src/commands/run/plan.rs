//! Turns the settings of a run into a plan: everything that can be checked before the run changes
//! anything on the host.

use std::env;
use std::net::SocketAddr;
use std::sync::Arc;

use nix::unistd::{Gid, Uid};

use super::super::filter;
use super::capture;
use super::exports::Exports;
use super::recording::RecordingPlan;
use crate::dns::resolver::parse_resolver;
use crate::doctor::{require_capabilities, require_limits};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::filter::FilterProgram;
use crate::flow::Protocol;
use crate::guardian::OpenFileLimit;
use crate::host::publish::Publish;
use crate::packets::{CaptureWriter, KeyLog, PacketPrinter};
use crate::report::{PublishedPort, Report};
use crate::rights;
use crate::settings::RunSettings;
use crate::target::command::{Command, NotRunnable};
use crate::target::environment;
use crate::target::user::Identity;
use crate::terminal::Output;

/// Why the run does not start.
#[derive(Debug)]
pub struct Refusal {
    /// The error to print.
    pub error: Error,
    /// How netwatch exits.
    pub exit: Exit,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, exit: Exit::Failed }
    }
}

impl From<NotRunnable> for Refusal {
    fn from(cause: NotRunnable) -> Self {
        Self { error: cause.error, exit: cause.exit }
    }
}

/// The plan of a run: its settings, and what was checked, found or opened for them.
#[derive(Debug)]
pub struct RunPlan {
    /// The settings.
    pub settings: RunSettings,
    /// The user that runs the command.
    pub user: Identity,
    /// The groups of the user.
    pub groups: Vec<Gid>,
    /// The user is not the one of netwatch: see [`crate::target::boundary`].
    pub is_foreign: bool,
    /// The command, with the path of its executable.
    pub command: Command,
    /// Resolvers to use instead of the host's; empty for the host's.
    pub dns: Vec<SocketAddr>,
    /// Ports to publish.
    pub publish: Vec<Publish>,
    /// The limit of open files, which was raised.
    pub open_files: OpenFileLimit,
    /// The open file of `-o`; taken when the run starts.
    pub(super) output: Option<Output>,
    /// The open file of `-w`; taken when the set-up starts.
    pub(super) capture: Option<CaptureWriter>,
    /// Which packets are captured; taken when the capture starts.
    pub(super) filter: Option<FilterProgram>,
    /// The secrets of TLS connections; created with the run directory, taken when the capture
    /// starts.
    pub(super) keys: Option<KeyLog>,
    /// Prints the lines of `--packets`; taken when the set-up starts.
    pub(super) lines: Option<PacketPrinter>,
    /// Metrics and flow records; taken when the set-up starts.
    pub(super) exports: Exports,
    /// Where the run is recorded; taken when the set-up starts.
    pub(super) record: Option<RecordingPlan>,
    /// The final report, when the run has ended.
    pub report: Option<Arc<Report>>,
}

impl RunPlan {
    /// Checks the settings, finds the command and opens the files.
    pub fn make(settings: RunSettings) -> Result<Self, Refusal> {
        require_capabilities()?;
        require_limits()?;
        let open_files = OpenFileLimit::raise()?;
        let caller = Identity::of_sudo()?;
        let user = match (&settings.user, &caller) {
            (Some(name), _) => Identity::named(name)?,
            (None, Some(caller)) => caller.clone(),
            (None, None) => Identity::own()?,
        };
        // Also for the caller of sudo, who may be in a root shell of sudo.
        let is_foreign = user.uid != Uid::current();
        let groups = user.groups()?;
        let command = find_command(&settings, &user, caller.as_ref())?;
        let dns = settings.dns.iter().map(|text| parse_resolver(text)).collect::<Result<_>>()?;
        let publish = settings.publish.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        let owner = rights::caller()?;
        let filter = settings.capture.as_ref().and_then(|capture| capture.filter.as_ref());
        // SAFETY: threads are started after the guardian, which needs the plan.
        let filter = filter.map(|filter| unsafe { filter::of_run(filter, &owner) }).transpose()?;
        let output =
            settings.session.output.as_deref().map(|path| Output::create(path, (owner.uid, owner.gid))).transpose()?;
        let record = Some(RecordingPlan::make(&settings.session, &owner)?);
        let options = settings.capture.as_ref();
        let capture = options.map(|options| capture::open(options, settings.keylog, &owner)).transpose()?.flatten();
        let lines = options.map(|options| capture::open_lines(options, &owner)).transpose()?.flatten();
        let exports = Exports::open(&settings.session, &owner)?;
        let report = None;
        Ok(Self {
            settings,
            user,
            groups,
            is_foreign,
            command,
            dns,
            publish,
            open_files,
            output,
            capture,
            filter,
            keys: None,
            lines,
            exports,
            record,
            report,
        })
    }
}

impl RunPlan {
    /// The command as reports show it: with `--no-cmdline`, without its arguments.
    pub(super) fn shown_command(&self) -> Vec<String> {
        let words = if self.settings.session.no_cmdline { 1 } else { usize::MAX };
        self.command.shown().into_iter().take(words).collect()
    }

    /// The published ports as reports list them.
    pub(super) fn published(&self) -> Vec<PublishedPort> {
        let published = |publish: &Publish| PublishedPort {
            protocol: Protocol(publish.protocol.number()),
            address: publish.address,
            host_port: publish.host_port,
            port: publish.target_port,
        };
        self.publish.iter().map(published).collect()
    }
}

/// Searches the PATH that the command itself will have.
fn find_command(settings: &RunSettings, user: &Identity, caller: Option<&Identity>) -> Result<Command, NotRunnable> {
    let changed = user.uid != Uid::effective();
    let is_caller = caller.is_some_and(|caller| caller.uid == user.uid);
    let before_sudo = if changed && is_caller { environment::before_sudo() } else { None };
    let variables = environment::for_user(env::vars_os().collect(), user, changed, before_sudo);
    Command::find(settings.command.clone(), variables)
}
