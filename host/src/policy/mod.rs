//! Policy components: loading them, and running each operation in a fresh instance.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
#[cfg(feature = "testing")]
use wasmtime::Enabled;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use crate::capabilities::OperationState;
use crate::error::Error;
use crate::grants::Grants;
use crate::manifest::{Manifest, PolicySource};
use crate::ownership::hex;
use crate::types::Description;

pub(crate) mod bindings;
mod call;
mod compiled;
mod convert;
mod epochs;
mod error;
pub(crate) mod limits;
mod wasi;

pub(crate) use call::{Request, Response};
use compiled::CodeOrigin;
pub(crate) use compiled::CompiledCache;
pub use error::PolicyError;
pub use limits::Limits;
pub(crate) use wasi::{LogBudget, Wasi};

use bindings::PolicyPre;
use epochs::Ticker;

/// The export that makes a component a policy.
const LIFECYCLE: &str = "fakecloud:elasticache/lifecycle";
/// The version of the contract that this host speaks.
pub const WIT_VERSION: &str = "0.1.0";
/// How long a policy that is looked at may take to say what it is.
const DESCRIBING: Duration = Duration::from_secs(10);
/// Operations that compute or wait at once; more wait for their turn.
const CONCURRENT: u32 = 128;
/// Bytes of a memory, and of a table, that an instance which is done leaves to the next one.
const KEPT: usize = 2 << 20;

/// Whether a policy is held to its limits. It is: only builds for tests can leave that, so that what
/// it costs can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Guards {
    #[default]
    On,
    #[cfg(feature = "testing")]
    Off,
    /// It is, but for what depends on how fast this machine is; and in code that checks each access to its memory, which
    /// costs less where instances come and go by the thousand.
    #[cfg(feature = "testing")]
    Simulated,
}

impl Guards {
    pub(crate) fn are_on(self) -> bool {
        match self {
            Guards::On => true,
            #[cfg(feature = "testing")]
            Guards::Off => false,
            #[cfg(feature = "testing")]
            Guards::Simulated => true,
        }
    }

    /// Whether a policy that computes for long lets others go on meanwhile.
    pub(crate) fn take_turns(self) -> bool {
        self == Guards::On
    }
}

/// What an environment gives to its policy.
pub(crate) struct Terms {
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    /// The policy's settings.
    pub(crate) config: WasiConfigVariables,
    pub(crate) guards: Guards,
}

impl Terms {
    pub(crate) fn of(manifest: Manifest, guards: Guards) -> Self {
        let config = manifest.settings().into_iter().collect();
        Self { grants: manifest.grants, limits: manifest.limits.within_a_clock(), config, guards }
    }
}

/// A policy with what its environment gives to it: what is swapped as one.
pub(crate) struct Active {
    pub(crate) policy: Policy,
    pub(crate) terms: Arc<Terms>,
}

impl Active {
    /// Loads the policy of a manifest. Takes a core for as long as compiling lasts, unless `cache` has it.
    pub(crate) fn load(
        manifest: Manifest,
        cache: &CompiledCache,
        guards: Guards,
    ) -> Result<Self, PolicyError> {
        let policy = Loaded::of(&manifest.policy, Some(cache), guards)?.policy;
        Ok(Self { policy, terms: Arc::new(Terms::of(manifest, guards)) })
    }

    /// What the policy says of itself. Needs no engine.
    pub(crate) async fn describe(&self) -> Result<Description, Error> {
        self.policy.describe(Arc::clone(&self.terms)).await
    }
}

/// A policy that is ready to run operations.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) path: Arc<Path>,
    pre: PolicyPre<OperationState>,
    ticker: Arc<Ticker>,
    turns: Arc<tokio::sync::Semaphore>,
}

/// What can be said of a component without running an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyInfo {
    /// The file.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Of the file, in hex.
    pub sha256: String,
    /// The version of the contract that it was built for.
    pub wit_version: String,
    /// The interfaces that it imports, with their versions.
    pub imports: Vec<String>,
    /// The interfaces that it exports, with their versions.
    pub exports: Vec<String>,
    /// Bytes that the largest linear memory of an instance starts with; `None` if the component does not tell.
    pub initial_memory: Option<u64>,
    /// Whether the same observations always lead to the same calls: it imports neither clocks nor randomness.
    pub deterministic: bool,
    /// What it says of itself; `None` if it broke off saying so.
    pub description: Option<Description>,
}

/// The engine's settings, for every policy the same but in a simulation: what is compiled under them runs under them.
fn engine(guards: Guards) -> Result<Engine, PolicyError> {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(CONCURRENT)
        .total_core_instances(CONCURRENT * 32)
        .total_memories(CONCURRENT * 2)
        .total_tables(CONCURRENT * 8)
        .total_stacks(CONCURRENT)
        .max_core_instances_per_component(200)
        .max_memories_per_component(8)
        .max_tables_per_component(32)
        .max_memory_size(Limits::MAX_MEMORY)
        .table_elements(Limits::MAX_TABLES)
        // Clearing these is quicker than to give them back to the system and to have them again at the next call.
        .linear_memory_keep_resident(KEPT)
        .table_keep_resident(KEPT);
    let mut config = Config::new();
    config
        .epoch_interruption(guards.are_on())
        .cranelift_opt_level(OptLevel::Speed)
        .memory_reservation(Limits::MAX_MEMORY as u64)
        .memory_guard_size(64 << 10)
        .memory_init_cow(true);
    #[cfg(feature = "testing")]
    if guards == Guards::Simulated {
        // Thousands of instances a second: to protect what one's memory grew by for the next one takes a system call
        // that stops the other threads, and to clear what it never touched takes its time.
        config.signals_based_traps(false).memory_guard_size(0);
        pool.pagemap_scan(Enabled::Auto);
    }
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config).map_err(|error| PolicyError::Engine(format!("{error:#}")))
}

/// All that a component with these imports may be linked with. WASI is left out where it is not asked for, since
/// linking all of it takes its time.
fn linker(engine: &Engine, imports: &[String]) -> wasmtime::Result<Linker<OperationState>> {
    use bindings::fakecloud::elasticache::{docker, exec, kube, logging, probes, snapshots, types};

    struct State;
    impl wasmtime::component::HasData for State {
        type Data<'a> = &'a mut OperationState;
    }

    let mut linker = Linker::new(engine);
    types::add_to_linker::<_, State>(&mut linker, |state| state)?;
    docker::add_to_linker::<_, State>(&mut linker, |state| state)?;
    kube::add_to_linker::<_, State>(&mut linker, |state| state)?;
    probes::add_to_linker::<_, State>(&mut linker, |state| state)?;
    snapshots::add_to_linker::<_, State>(&mut linker, |state| state)?;
    exec::add_to_linker::<_, State>(&mut linker, |state| state)?;
    logging::add_to_linker::<_, State>(&mut linker, |state| state)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut OperationState| {
        WasiConfig::from(&state.terms.config)
    })?;
    if wasi::is_imported(imports) {
        wasi::add_to_linker(&mut linker)?;
    }
    Ok(linker)
}

/// A component that was read, checked and prepared.
struct Loaded {
    policy: Policy,
    component: Component,
    wasm: Vec<u8>,
    wit_version: String,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Loaded {
    /// Takes a core for as long as compiling lasts, unless `cache` has it.
    fn of(source: &PolicySource, cache: Option<&CompiledCache>, guards: Guards) -> Result<Self, PolicyError> {
        let (path, wasm) = read_source(source)?;
        let engine = engine(guards)?;
        let prepare = |error: wasmtime::Error| PolicyError::Prepare {
            path: path.clone(),
            message: format!("{error:#}"),
        };
        let (component, origin) = match cache {
            Some(cache) => cache.load(&engine, &wasm),
            None => Component::from_binary(&engine, &wasm).map(|made| (made, CodeOrigin::Compiled)),
        }
        .map_err(prepare)?;
        tracing::debug!(path = %path.display(), ?origin, "policy loaded");
        let (imports, exports) = names(&engine, &component);
        let wit_version = check_exports(&path, &exports)?;
        let link =
            |error: wasmtime::Error| PolicyError::Link { path: path.clone(), message: format!("{error:#}") };
        let pre = linker(&engine, &imports).map_err(prepare)?.instantiate_pre(&component).map_err(link)?;
        let policy = Policy {
            path: path.as_path().into(),
            pre: PolicyPre::new(pre).map_err(link)?,
            ticker: Arc::new(Ticker::start(&engine)),
            turns: Arc::new(tokio::sync::Semaphore::new(CONCURRENT as usize)),
        };
        Ok(Self { policy, component, wasm, wit_version, imports, exports })
    }
}

/// Describes a component: what it is, what it imports, what it says of itself.
///
/// It is compiled once: the code is kept where a runtime that is told of no folder keeps and finds it. Where that
/// cannot be, it is compiled each time.
///
/// # Errors
/// [`PolicyError`] if the file is no policy for this host.
pub async fn inspect_policy(path: &Path) -> Result<PolicyInfo, PolicyError> {
    inspect_environment(&Manifest { policy: PolicySource::file(path), ..Manifest::default() }).await
}

/// As [`inspect_policy`], for the component that a manifest names, in its environment; one that is pinned is held to
/// it.
///
/// # Errors
/// [`PolicyError`] if the file is no policy for this host, or not the one that is pinned.
pub async fn inspect_environment(manifest: &Manifest) -> Result<PolicyInfo, PolicyError> {
    let source = manifest.policy.clone();
    let load = move || Loaded::of(&source, CompiledCache::of_user().as_ref(), Guards::On);
    // Compiling a policy takes a core for a while.
    let loaded = tokio::task::spawn_blocking(load).await;
    let Loaded { policy, component, wasm, wit_version, imports, exports } =
        loaded.map_err(|error| PolicyError::Engine(format!("loading ended early: {error}")))??;
    // What it says of itself needs no grant, and whatever time and memory it takes.
    let limits = Limits { memory: Limits::MAX_MEMORY, guest_time: DESCRIBING, ..Limits::default() };
    let terms = Arc::new(Terms::of(Manifest { limits, ..manifest.clone() }, Guards::On));
    Ok(PolicyInfo {
        path: policy.path.to_path_buf(),
        size: wasm.len() as u64,
        sha256: hex(&Sha256::digest(&wasm)),
        wit_version,
        initial_memory: initial_memory(&component),
        deterministic: wasi::is_deterministic(&imports),
        imports,
        exports,
        description: policy.describe(terms).await.ok(),
    })
}

/// Bytes of the largest memory at the start, as far as that can be told without running it.
fn initial_memory(component: &Component) -> Option<u64> {
    const PAGE: u64 = 64 << 10;
    let required = component.resources_required()?;
    Some(required.max_initial_memory_size.unwrap_or(0) * PAGE)
}

/// The component of a manifest, if it is the one that is pinned.
fn read_source(source: &PolicySource) -> Result<(PathBuf, Vec<u8>), PolicyError> {
    let path = match &source.component {
        Some(path) => path.clone(),
        None => default_file()?,
    };
    let wasm = read(&path)?;
    check_sha256(&path, &wasm, source)?;
    Ok((path, wasm))
}

fn check_sha256(path: &Path, wasm: &[u8], source: &PolicySource) -> Result<(), PolicyError> {
    let Some(wanted) = &source.sha256 else { return Ok(()) };
    let found = hex(&Sha256::digest(wasm));
    if found == wanted.as_str() {
        return Ok(());
    }
    Err(PolicyError::OtherContent { path: path.to_owned(), found, wanted: wanted.as_str().to_owned() })
}

/// The file's bytes, if they look like a component at all.
fn read(path: &Path) -> Result<Vec<u8>, PolicyError> {
    let wasm = fs::read(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
    // The first eight bytes: a magic number, then whether it is a module or a component.
    let reason = match wasm.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => return Ok(wasm),
        Some(b"\0asm\x01\0\0\0") => {
            "is a core WebAssembly module, not a component; build it with `cargo component build`"
        }
        _ => "is no WebAssembly component; build one with `cargo component build`",
    };
    Err(PolicyError::NotAComponent { path: path.to_owned(), reason: reason.to_owned() })
}

/// Names of imports and exports.
fn names(engine: &Engine, component: &Component) -> (Vec<String>, Vec<String>) {
    let kind = component.component_type();
    let imports = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    (imports, exports)
}

/// The version of the contract that these exports speak, if this host speaks it too: the same before the
/// last number, as semantic versioning has it for 0.x.
fn check_exports(path: &Path, exports: &[String]) -> Result<String, PolicyError> {
    let wanted = format!("{LIFECYCLE}@{WIT_VERSION}");
    let found = exports.iter().find_map(|export| {
        let (name, version) = export.split_once('@')?;
        (name == LIFECYCLE).then_some(version)
    });
    let series = |version: &str| version.rsplit_once('.').map(|(series, _)| series.to_owned());
    match found {
        None => Err(PolicyError::NotAPolicy { path: path.to_owned(), wanted }),
        Some(version) if series(version) != series(WIT_VERSION) => Err(PolicyError::OtherVersion {
            path: path.to_owned(),
            found: format!("{LIFECYCLE}@{version}"),
            wanted,
        }),
        Some(version) => Ok(version.to_owned()),
    }
}

/// Where a policy is looked for if none is named: `FAKECLOUD_ELASTICACHE_POLICY`, else
/// `policies/durable.wasm` beside the executable.
pub(crate) fn default_file() -> Result<PathBuf, PolicyError> {
    if let Some(path) = std::env::var_os("FAKECLOUD_ELASTICACHE_POLICY").filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let relative = Path::new("policies").join("durable.wasm");
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(&relative)));
    match beside {
        Some(path) if path.is_file() => Ok(path),
        Some(looked) => Err(PolicyError::Missing { looked }),
        None => Err(PolicyError::Missing { looked: relative }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn check(export: &str) -> Result<String, PolicyError> {
        check_exports(Path::new("p.wasm"), &[export.to_owned()])
    }

    #[test]
    fn the_contract_s_version_must_be_of_the_same_series() {
        assert_eq!(check("fakecloud:elasticache/lifecycle@0.1.0").unwrap(), "0.1.0");
        assert_eq!(check("fakecloud:elasticache/lifecycle@0.1.7").unwrap(), "0.1.7");
        for other in ["0.2.0", "1.1.0", "0.10.0"] {
            let error = check(&format!("fakecloud:elasticache/lifecycle@{other}")).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(other) && text.contains("0.1.0") && text.contains("rebuild"), "{text}");
        }
    }

    #[test]
    fn a_component_for_something_else_is_no_policy() {
        let error = check("wasi:cli/run@0.2.0").unwrap_err();
        assert!(matches!(error, PolicyError::NotAPolicy { .. }), "{error}");
    }

    #[test]
    fn what_is_no_component_is_told_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.wasm");
        for (bytes, word) in
            [(&b"\0asm\x01\0\0\0"[..], "core"), (b"hello, world", "no WebAssembly"), (b"", "no WebAssembly")]
        {
            fs::write(&path, bytes).unwrap();
            let text = read(&path).unwrap_err().to_string();
            assert!(text.contains(word) && text.contains("cargo component build"), "{text}");
        }
    }
}
