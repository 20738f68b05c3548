//! Where things are: the workspace, its build folder, and the cache that outlives both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process;

/// The shipped policies: packages, and the components that they build. The first one is the default.
pub(crate) const POLICIES: [&str; 3] = ["durable", "ephemeral", "aws"];
/// The package of the policies that misbehave, one for each file in its `examples`.
pub(crate) const HOSTILE: &str = "hostile";
/// The package of the policy that README shows; its component's name.
pub(crate) const EXAMPLE: &str = "plain";
/// The policy that calls the host at random.
pub(crate) const FUZZED: &str = "fuzzed";

/// Folders and programs that every chore needs.
pub(crate) struct Context {
    /// The folder of the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// Cargo's build folder, absolute, with CARGO_TARGET_DIR and configuration taken into account.
    pub(crate) target: PathBuf,
    /// Tools and downloads that every clone on this machine shares.
    pub(crate) cache: PathBuf,
    /// The cargo that runs this program.
    pub(crate) cargo: PathBuf,
}

/// How the native programs are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

impl Profile {
    /// The profile's folder below the build folder.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }

    /// The flags that choose it.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Debug => &[],
            Self::Release => &["--release"],
        }
    }
}

impl Context {
    /// Asks cargo where it builds.
    pub(crate) fn discover() -> Result<Self> {
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let text = process::output(
            process::command(&cargo).args(["metadata", "--no-deps", "--format-version", "1"]),
            Duration::from_secs(120),
        )
        .context("xtask runs inside of the workspace, by `cargo xtask`")?;
        let metadata: Value = serde_json::from_str(&text).context("cargo metadata printed something else")?;
        let folder = |name: &str| {
            metadata[name].as_str().map(PathBuf::from).with_context(|| format!("cargo metadata lacks {name}"))
        };
        Ok(Self {
            root: folder("workspace_root")?,
            target: folder("target_directory")?,
            cache: cache_folder()?,
            cargo,
        })
    }

    /// A cargo command at the workspace root, which builds where this one was built.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(&self.cargo);
        // A relative CARGO_TARGET_DIR was resolved against the caller's folder, which need not be the root.
        command.args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// The folder that cargo puts the finished programs of a profile in.
    pub(crate) fn programs(&self, profile: Profile) -> PathBuf {
        self.target.join(profile.folder())
    }

    /// A program of this workspace as cargo builds it.
    pub(crate) fn program(&self, profile: Profile, name: &str) -> PathBuf {
        self.programs(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
    }

    /// The policies beside the programs of a profile, where `cachehost` looks for them.
    pub(crate) fn policies(&self, profile: Profile) -> PathBuf {
        self.programs(profile).join("policies")
    }

    /// The default policy.
    fn policy(&self, profile: Profile) -> PathBuf {
        self.policies(profile).join(format!("{}.wasm", POLICIES[0]))
    }

    /// The policies that only tests run: apart from those that a user is given.
    pub(crate) fn test_policies(&self) -> PathBuf {
        self.programs(Profile::Debug).join("test-policies")
    }

    /// Where tools of our own are installed.
    pub(crate) fn tools(&self) -> PathBuf {
        self.cache.join("tools")
    }

    /// The same for a copy of this workspace, built where this one is.
    pub(crate) fn of_copy(&self, root: PathBuf) -> Self {
        Self { root, target: self.target.clone(), cache: self.cache.clone(), cargo: self.cargo.clone() }
    }

    /// Gives tests folders in place of the user's own. They stay: a policy in them is compiled once.
    pub(crate) fn keep_user_folders(&self, command: &mut Command) {
        let folder = self.target.join("tmp").join("user");
        command
            .env("FAKECLOUD_ELASTICACHE_DATA_DIR", folder.join("data"))
            .env("FAKECLOUD_ELASTICACHE_CACHE_DIR", folder.join("cache"));
    }

    /// Hands a program the built policies and command line, under the names that tests look for.
    pub(crate) fn hand_over(&self, command: &mut Command, profile: Profile) {
        command
            .env("CACHEHOST_BIN", self.program(profile, "cachehost"))
            .env("FAKECLOUD_ELASTICACHE_POLICY", self.policy(profile))
            .env("HOSTILE_POLICIES", self.test_policies());
    }
}

/// A new folder, deleted when dropped; work in it can be abandoned at any moment.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Creates an empty folder below `parent`, named after this process.
    pub(crate) fn below(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(format!(".{name}-{}", std::process::id()));
        // Process ids come round again, so an interrupted run may have left a folder of that name.
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot clear {}", path.display()))?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it being gone.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn cache_folder() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from) {
        // The XDG specification says that relative paths are to be ignored.
        Some(path) if path.is_absolute() => path,
        _ => {
            let home = std::env::home_dir().context("neither XDG_CACHE_HOME nor HOME is set")?;
            home.join(".cache")
        }
    };
    Ok(base.join("fakecloud-elasticache"))
}
