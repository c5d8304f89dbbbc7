//! What was typed, made into one checked plan before anything is touched.

use std::env;
use std::net::SocketAddr;

use nix::unistd::{Gid, Uid};

use super::recording::RecordingPlan;
use crate::dns::resolver::parse_resolver;
use crate::doctor::require_capabilities;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::host::publish::Publish;
use crate::settings::RunSettings;
use crate::target::command::{Command, NotRunnable};
use crate::target::environment;
use crate::target::user::Identity;
use crate::terminal::Output;

/// Why there will be no run.
#[derive(Debug)]
pub struct Refusal {
    /// What to say.
    pub error: Error,
    /// How netwatch ends.
    pub exit: Exit,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, exit: Exit::Failed }
    }
}

impl From<NotRunnable> for Refusal {
    fn from(why: NotRunnable) -> Self {
        Self { error: why.error, exit: why.exit }
    }
}

/// Everything a run needs to know, checked.
#[derive(Debug)]
pub struct Plan {
    /// What was typed.
    pub settings: RunSettings,
    /// Who the command runs as.
    pub user: Identity,
    /// Their groups.
    pub groups: Vec<Gid>,
    /// The command, found.
    pub command: Command,
    /// Resolvers to ask instead of the host's own.
    pub dns: Vec<SocketAddr>,
    /// Ports to be reached from outside.
    pub publish: Vec<Publish>,
    /// The file of `-o`, open.
    pub(super) output: Option<Output>,
    /// Where the run is recorded; taken when the set-up begins.
    pub(super) record: Option<RecordingPlan>,
}

impl Plan {
    /// Checks everything that can be checked beforehand.
    pub fn make(settings: RunSettings) -> Result<Self, Refusal> {
        require_capabilities()?;
        let caller = Identity::of_sudo()?;
        let user = match (&settings.user, &caller) {
            (Some(name), _) => Identity::named(name)?,
            (None, Some(caller)) => caller.clone(),
            (None, None) => Identity::own()?,
        };
        let groups = user.groups()?;
        let command = find_command(&settings, &user, caller.as_ref())?;
        let dns = settings.dns.iter().map(|text| parse_resolver(text)).collect::<Result<_>>()?;
        let publish = settings.publish.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        let owner = caller.as_ref().map_or((Uid::effective(), Gid::effective()), |caller| (caller.uid, caller.gid));
        let output = settings.output.as_deref().map(|path| Output::create(path, owner)).transpose()?;
        let record = Some(RecordingPlan::make(&settings, &owner_of_files(caller)?)?);
        Ok(Self { settings, user, groups, command, dns, publish, output, record })
    }
}

/// Who called sudo, else whom netwatch runs as.
fn owner_of_files(caller: Option<Identity>) -> Result<Identity> {
    caller.map_or_else(Identity::own, Ok)
}

/// The command is looked up in the PATH that it will have itself.
fn find_command(settings: &RunSettings, user: &Identity, caller: Option<&Identity>) -> Result<Command, NotRunnable> {
    let changed = user.uid != Uid::effective();
    let is_caller = caller.is_some_and(|caller| caller.uid == user.uid);
    let path = if changed && is_caller { environment::path_before_sudo() } else { None };
    let variables = environment::for_user(env::vars_os().collect(), user, changed, path);
    Command::find(settings.command.clone(), variables)
}
