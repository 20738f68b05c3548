//! `cargo xtask cluster`: a real Kubernetes of one node on this machine, apart from all that its user has.
//!
//! Everything that it keeps is in one folder, and every program that it runs carries a mark. What is down
//! is therefore gone, also after an `up` that failed halfway or a reboot of the machine.

mod api;
mod control;
mod credentials;
mod daemon;
mod engine;
mod kubernetes;
mod layout;
mod network;
mod sweep;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::process;
use crate::report::{self, Outcome};
use crate::setup::{self, debian};

use daemon::Daemon;
use layout::Layout;

/// The storage class that claims get a folder from.
pub(crate) const STORAGE_CLASS: &str = "hostpath";

/// How long a program may take to end when it is to be started again.
const RESTART: Duration = Duration::from_secs(30);

/// Programs that a cluster runs with, and the packages that have them.
const PROGRAMS: [(&str, &str); 9] = [
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    // The kubelet forwards ports by it, inside of a pod's network.
    ("socat", "socat"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("kill", "procps"),
    ("openssl", "openssl"),
    ("curl", "curl"),
];

/// A program that can be restarted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Kubelet,
    Engine,
}

/// A cluster that is up.
pub(crate) struct Cluster {
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    /// The context to choose in it.
    pub(crate) context: &'static str,
}

impl Cluster {
    fn of(layout: &Layout) -> Self {
        Self { kubeconfig: layout.kubeconfig(), context: layout::NAME }
    }
}

/// Hands a program the cluster, under the names that tests look for, and how its parts are restarted.
pub(crate) fn hand_over(context: &Context, command: &mut Command) {
    let cluster = Cluster::of(&Layout::of(context));
    command.env("KUBE_TEST_KUBECONFIG", &cluster.kubeconfig).env("KUBE_TEST_CONTEXT", cluster.context);
    if let Ok(this) = std::env::current_exe() {
        command.env("KUBE_TEST_RESTART", format!("{} cluster restart", this.display()));
    }
}

/// Whether all of it is up.
pub(crate) fn is_up(context: &Context) -> bool {
    let layout = Layout::of(context);
    let running = daemons().into_iter().all(|name| Daemon::new(&layout, name).running().is_some());
    running && api::ready(&layout) && api::kubelet_ready() && api::node_ready(&layout, None)
}

/// Brings up what is not up, and waits until pods can be made.
pub(crate) fn up(context: &Context) -> Result<Cluster> {
    if !debian::is_root() {
        bail!(
            "a cluster on this machine takes root, for the kubelet and an engine of its own. Any other cluster \
             does as well: name a context of a kubeconfig"
        );
    }
    let layout = Layout::of(context);
    engine::possible(&layout)?;
    let _lock = lock(&layout)?;
    report::step("cluster's programs", programs)?;
    report::step("kubernetes", || kubernetes::set_up(&layout))?;
    setup::engines(context)?;
    // Before anything is touched that another one may be using.
    control::alone(&layout)?;
    run(&layout).context(
        "the cluster is not up. `cargo xtask cluster up` goes on from here, and `cargo xtask cluster down` \
         removes what there is",
    )?;
    Ok(Cluster::of(&layout))
}

/// Starts what does not run. The caller holds the lock.
fn run(layout: &Layout) -> Result<()> {
    credentials::private_folder(&layout.data)?;
    credentials::private_folder(&layout.file("logs"))?;
    // Whoever holds the namespace took its mounts along, and the others would be left in the old one.
    if Daemon::new(layout, engine::NAMESPACE).running().is_none() {
        for name in [control::KUBELET, control::CONTROLLERS, engine::ENGINE] {
            Daemon::new(layout, name).stop(RESTART)?;
        }
    }
    let mut started = false;
    let subnet = network::subnet(layout)?;
    network::set_up(subnet).context("cannot make the pods' network")?;
    credentials::set_up(layout, subnet)?;
    report::step("control plane", || {
        started |= control::start_api(layout)?;
        Ok(outcome(started, "started"))
    })?;
    let inside = engine::namespace(layout)?;
    // The API server takes some seconds, in which the engine gets its images.
    report::step("container engine", || {
        engine::cgroups()?;
        let engine_started = engine::start(layout, &inside)?;
        started |= engine_started;
        let copied = engine::images(layout)?;
        Ok(match (engine_started, copied) {
            (false, 0) => Outcome::Present("running".to_owned()),
            (_, copied) => Outcome::Made(format!("running, {copied} images copied")),
        })
    })?;
    report::step("API server", || {
        control::wait_for_api(layout)?;
        Ok(outcome(started, "ready"))
    })?;
    report::step("node", || {
        let actors_started = control::start_actors(layout, &inside, subnet)?;
        control::wait_for_node(layout, None)?;
        Ok(outcome(actors_started, "ready"))
    })
}

fn outcome(made: bool, what: &str) -> Outcome {
    if made { Outcome::Made(what.to_owned()) } else { Outcome::Present("running".to_owned()) }
}

/// Installs the programs that are missing.
fn programs() -> Result<Outcome> {
    let lacking = || PROGRAMS.iter().filter(|(name, _)| process::on_path(name).is_none());
    let packages: Vec<&str> = lacking().map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(Outcome::Present("installed".to_owned()));
    }
    if debian::may_install() {
        debian::install(&packages)?;
    }
    if let Some((name, package)) = lacking().next() {
        bail!("there is no `{name}` on PATH; it is in Debian's package {package}");
    }
    Ok(Outcome::Made(format!("{} installed", packages.join(", "))))
}

/// `cluster up`.
pub(crate) fn bring_up(context: &Context) -> Result<ExitCode> {
    let began = Instant::now();
    let cluster = up(context)?;
    eprintln!("the cluster is up ({})", report::duration(began.elapsed()));
    print(&Layout::of(context), &cluster);
    Ok(ExitCode::SUCCESS)
}

/// `cluster down`.
pub(crate) fn down(context: &Context) -> Result<ExitCode> {
    let began = Instant::now();
    let layout = Layout::of(context);
    // Whoever cannot have brought one up has nothing to take down, which is no failure.
    if layout.data.exists() && !debian::is_root() {
        bail!("a cluster belongs to root, who alone can take it down");
    }
    let _lock = lock(&layout)?;
    // A bridge or cgroups would then be those of a cluster in another cache folder.
    if !layout.data.exists() {
        println!("there is no cluster");
        return Ok(ExitCode::SUCCESS);
    }
    sweep::all(&layout)?;
    println!("the cluster is gone ({})", report::duration(began.elapsed()));
    Ok(ExitCode::SUCCESS)
}

/// `cluster status`: success if the cluster is up.
pub(crate) fn status(context: &Context) -> Result<ExitCode> {
    let layout = Layout::of(context);
    let mut all = true;
    let mut rows = Vec::new();
    for name in daemons() {
        let running = Daemon::new(&layout, name).running();
        all &= running.is_some();
        let pid = running.map_or_else(|| "-".to_owned(), |identity| identity.pid.to_string());
        rows.push(vec![name.to_owned(), pid, layout.log(name).display().to_string()]);
    }
    if !layout.data.exists() {
        println!("down. `cargo xtask cluster up` brings a cluster up");
        return Ok(ExitCode::FAILURE);
    }
    println!("{}", report::table(&["program", "process", "log"], &rows, false));
    let node = all && api::ready(&layout) && api::kubelet_ready() && api::node_ready(&layout, None);
    if !node {
        println!("not up. `cargo xtask cluster up` starts what is missing");
        return Ok(ExitCode::FAILURE);
    }
    print(&layout, &Cluster::of(&layout));
    Ok(ExitCode::SUCCESS)
}

/// `cluster restart`: ends one program and starts it again, with all others left running.
pub(crate) fn restart(context: &Context, part: Part) -> Result<ExitCode> {
    let began = Instant::now();
    let layout = Layout::of(context);
    let _lock = lock(&layout)?;
    let (Some(inside), true) = (Daemon::new(&layout, engine::NAMESPACE).running(), layout.data.exists())
    else {
        bail!("the cluster is not up; `cargo xtask cluster up` brings it up");
    };
    let name = match part {
        Part::Kubelet => control::KUBELET,
        Part::Engine => engine::ENGINE,
    };
    Daemon::new(&layout, name).stop(RESTART)?;
    let before = if part == Part::Kubelet { api::last_heard(&layout) } else { None };
    match part {
        Part::Kubelet => control::start_kubelet(&layout, &inside, network::subnet(&layout)?)?,
        Part::Engine => engine::start(&layout, &inside)?,
    };
    control::wait_for_node(&layout, before.as_deref())?;
    println!("{name} has been restarted ({})", report::duration(began.elapsed()));
    Ok(ExitCode::SUCCESS)
}

/// All programs of a cluster, in the order in which they start.
fn daemons() -> [&'static str; 7] {
    [
        control::ETCD,
        control::API_SERVER,
        engine::NAMESPACE,
        engine::ENGINE,
        control::CONTROLLERS,
        control::SCHEDULER,
        control::KUBELET,
    ]
}

fn print(layout: &Layout, cluster: &Cluster) {
    println!("context     {}", cluster.context);
    println!("kubeconfig  {}", cluster.kubeconfig.display());
    println!("server      {}", layout::api_url());
    println!("engine      unix://{}", layout.engine_socket().display());
}

/// One command at a time brings up or takes down. The file stays: whoever waits for it has it open.
fn lock(layout: &Layout) -> Result<fs::File> {
    fs::create_dir_all(&layout.programs)
        .with_context(|| format!("cannot create {}", layout.programs.display()))?;
    let path = layout.programs.join("lock");
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        report::note("cluster", "waiting for another command on the cluster");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}
