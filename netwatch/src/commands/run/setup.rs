//! Sets a run up: the classifier is loaded in a thread meanwhile, and attached before the first
//! packet on the link.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use super::firewall::FirewallState;
use super::interim::InterimPrinter;
use super::live::{Live, from_link};
use super::metering::{Metering, MeteringSpec};
use super::network::{Network, SetupContext, SetupFacts};
use super::processes::{HasLocalSockets, TracerLoading};
use super::signals::SignalStream;
use super::soak::SoakWatch;
use super::tails::{TailCapture, Tails};
use super::thread::PendingWork;
use super::thresholds::ThresholdWatch;
use super::watch::NotStarted;
use super::{RunPlan, capture, egress, notes, session};
use crate::error::{Error, Result};
use crate::faults;
use crate::guardian::{GuardianClient, Prepare, Reply};
use crate::host::cgroup::{Cgroup, CgroupOutcome};
use crate::host::conntrack::RefusedConnections;
use crate::host::forwarding::Families;
use crate::host::link;
use crate::host::socket_sysctls::SocketSysctls;
use crate::host::sysctl::netns_cookie;
use crate::meter::{KernelMeter, LiveMeter, ProcessTracerConfig, unix_now_ns};
use crate::report::{DnsForwarder, Interface, Run};
use crate::rights;
use crate::session::{IsolatedScope, Session};
use crate::target::inherited;
use crate::terminal::{Show, print_message};
use crate::undo::{Journal, RunCard, RunDir};

/// Everything is in place and the command waits.
pub(super) struct Ready {
    pub live: Live,
    pub cgroup: Option<Cgroup>,
}

/// Sets everything up, up to the moment where only "go" is missing.
pub(super) async fn set_up(
    plan: &mut RunPlan,
    run_dir: &RunDir,
    journal: &Journal,
    guardian: &mut GuardianClient,
    show: Show,
    signals: &SignalStream<'_>,
) -> Result<Result<Ready, NotStarted>> {
    let config = session::meter_config(&plan.settings.session);
    let load = move || faults::point("meter").and_then(|()| KernelMeter::load(&config));
    let (loading, sysctls) = (PendingWork::start("load", load)?, PendingWork::start("sysctls", SocketSysctls::read)?);
    let policy = egress::start(plan)?;
    let mut notes: Vec<String> = notes::inherited_sockets(&inherited::sockets(plan.is_foreign)).into_iter().collect();
    let context = SetupContext { id: run_dir.id(), dir: run_dir.path(), journal, signals: signals.held() };
    let cgroup = make_cgroup(&context, &mut notes)?;
    let arguments = &plan.settings;
    let what = ProcessTracerConfig { cmdline: !arguments.session.no_cmdline, failed_calls: arguments.failed_calls };
    let processes = TracerLoading::start(what, cgroup.as_ref().map(Cgroup::path), HasLocalSockets(true))?;
    let mut meter = signals.unless_stopped(loading.finish()).await???;
    let sysctls = signals.unless_stopped(sysctls.finish()).await???;
    let mut policy = signals.unless_stopped(policy.finish()).await???;
    notes.append(&mut policy.notes);
    let facts = facts(plan, sysctls, policy.closed);
    let refused_before = RefusedConnections::read().ok();
    let mut network = Network::set_up(plan, &context, &facts, &mut notes, &mut meter)?;
    context.signals.step("prepare")?;
    guardian.prepare(prepare(plan, cgroup.as_ref(), &network), network.namespace.as_fd())?;
    meter.grow_by(guardian.memory_growth());
    meter.attach_loopback(network.namespace.as_fd())?;
    let netns = network.namespace.run_in(netns_cookie)??;
    if plan.settings.session.verbose {
        print_network(&network, &meter);
    }
    run_dir.write_card(&card(plan, run_dir, &network, guardian.pid()))?;
    let pid = match signals.unless_stopped(wait_until_prepared(guardian)).await?? {
        Ok(pid) => pid,
        Err(why) => return Ok(Err(why)),
    };
    // Before the command's first instruction.
    let (tracer, attribution) = signals.unless_stopped(processes.finish(&mut notes)).await?;
    let interface = network.link.name().to_owned();
    let read_counters = Box::new(move || Ok(link::counters_of(&interface)?.map(from_link)));
    let mut meter = LiveMeter::new(meter, tracer, !plan.settings.session.no_cmdline, read_counters)?;
    meter.watch_local_sockets(pid);
    let mount_namespace = File::open(format!("/proc/{pid}/ns/mnt"))
        .map_err(|error| Error::os("open", "the command's mount namespace", error))?;
    signals.unless_stopped(network.keep_mounts(mount_namespace.into())).await??;
    signals.held().check_interrupted()?;
    let config = session::config(&plan.settings.session, attribution, vec![netns], session::TracedProcesses::Command);
    let mut session = Session::new(scope(plan, run_dir, &network, pid), config);
    notes.into_iter().for_each(|note| session.note(note));
    let soak = soak_watch(plan, run_dir, &mut session)?;
    let thresholds = ThresholdWatch::new(&plan.settings.session);
    let (usage, interim) = (cgroup.as_ref().and_then(Cgroup::usage_reader), InterimPrinter::new(show));
    let metering = Metering::start(MeteringSpec { meter, session, interim, usage, soak, thresholds })?;
    let readers = session::serve_readers(run_dir, &metering)?;
    let tails = serve_tails(plan, run_dir, &metering)?;
    let capture = signals.unless_stopped(capture::start(plan, run_dir.id(), &network, &metering, guardian)).await??;
    let live = Live {
        firewall: FirewallState::new(network.blocked.clone()),
        network,
        metering,
        consumers: session::Consumers::new(
            &plan.settings.session,
            plan.record.take(),
            std::mem::take(&mut plan.exports),
        ),
        capture,
        tails,
        _readers: readers,
        _late_probes: policy.take_watch(),
        run_id: run_dir.id().to_string(),
        refused_before,
        resolve: plan.settings.session.resolve,
        started_ns: unix_now_ns(),
    };
    Ok(Ok(Ready { live, cgroup }))
}

/// What the network is set up with, beside the plan.
fn facts(plan: &RunPlan, sysctls: SocketSysctls, closed: Families) -> SetupFacts {
    let resolvers = egress::resolvers(plan).iter().map(SocketAddr::ip).collect();
    SetupFacts { sysctls, closed, resolvers, user: (plan.user.name.clone(), plan.user.uid.as_raw()) }
}

fn soak_watch(plan: &RunPlan, run_dir: &RunDir, session: &mut Session<IsolatedScope>) -> Result<Option<SoakWatch>> {
    let Some(settings) = &plan.settings.soak else { return Ok(None) };
    session.watch_endpoints();
    SoakWatch::new(settings, &run_dir.id().to_string(), &rights::caller()?).map(Some)
}

/// Serves `netwatch tail`. A run without it continues, and a note has the reason.
fn serve_tails(plan: &RunPlan, run_dir: &RunDir, metering: &Metering) -> Result<Tails> {
    let captured = TailCapture::of(plan, run_dir.id())?;
    let (tails, outcome) = Tails::start(run_dir.path(), &rights::caller()?, captured);
    if let Err(error) = outcome {
        metering.note(error.to_string());
    }
    Ok(tails)
}

/// What the session meters.
fn scope(plan: &RunPlan, run_dir: &RunDir, network: &Network, pid: i32) -> IsolatedScope {
    let run = Run {
        id: run_dir.id().to_string(),
        command: plan.shown_command(),
        user: plan.user.name.clone(),
        pid: u32::try_from(pid).ok(),
        kernel: session::kernel_release(),
        netwatch: env!("CARGO_PKG_VERSION").to_owned(),
        ..Run::default()
    };
    let interface = Interface {
        name: network.link.name().to_owned(),
        mtu: network.plan.mtu,
        local: network.targets(),
        gateway: network.gateways(),
        broadcast: network.broadcast(),
        host_loopback: network.host_services(),
        published: plan.published(),
    };
    IsolatedScope { run, interface, dns: DnsForwarder { resolvers: network.dns().resolvers() } }
}

fn make_cgroup(context: &SetupContext<'_>, notes: &mut Vec<String>) -> Result<Option<Cgroup>> {
    context.signals.step("cgroup")?;
    match Cgroup::create(context.id, context.journal)? {
        CgroupOutcome::Created(cgroup) => Ok(Some(cgroup)),
        CgroupOutcome::Unavailable(reason) => {
            notes.push(format!("the command runs without a cgroup of its own: {reason}"));
            Ok(None)
        }
    }
}

fn prepare(plan: &RunPlan, cgroup: Option<&Cgroup>, network: &Network) -> Prepare {
    Prepare {
        netns: plan.settings.name.clone(),
        cgroup_procs: cgroup.map(Cgroup::procs_path),
        firewall: network.firewall,
        gateway: network.gateways().first().copied(),
    }
}

fn card(plan: &RunPlan, run_dir: &RunDir, network: &Network, guardian: i32) -> RunCard {
    RunCard {
        id: run_dir.id().clone(),
        pid: std::process::id().cast_signed(),
        guardian: Some(guardian),
        command: plan.shown_command(),
        user: plan.user.name.clone(),
        started_ns: unix_now_ns(),
        interface: network.link.name().to_owned(),
        netns: plan.settings.name.clone(),
    }
}

async fn wait_until_prepared(guardian: &mut GuardianClient) -> Result<Result<i32, NotStarted>> {
    let answer = guardian
        .await_reply(|reply| match reply {
            Reply::Prepared { pid } => Ok(Ok(pid)),
            Reply::NotStarted { message, code } => Ok(Err(NotStarted { message, code })),
            other => Err(other),
        })
        .await?;
    answer.ok_or_else(|| Error::other("prepare", "the command", "the guardian process was killed"))
}

/// `-v`: prints the network of the command.
fn print_network(network: &Network, meter: &KernelMeter) {
    fn list(items: &[impl ToString]) -> String {
        items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
    let method = meter.method().map(|method| format!("{method:?}").to_lowercase()).unwrap_or_default();
    print_message(&format!(
        "interface {} (MTU {}), gateway {}, target {}, classifier by {}, DNS by {}",
        network.link.name(),
        network.plan.mtu,
        list(&network.gateways()),
        list(&network.targets()),
        method,
        list(&network.dns().resolvers()),
    ));
}
