//! What `cargo metadata` says, as far as the checks read it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::failure::{Context, Outcome};
use crate::shell::Call;

/// The only platform we build for; dependencies of other platforms are nobody's business here.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// The whole answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    workspace_members: Vec<String>,
    /// `name vX.Y.Z` of every crate that is really built.
    #[serde(skip)]
    built: BTreeSet<String>,
}

/// One crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) license_file: Option<String>,
    /// None for a crate of this workspace.
    pub(crate) source: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) targets: Vec<Target>,
    pub(crate) manifest_path: String,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// None for a normal dependency.
    pub(crate) kind: Option<String>,
    /// Set when the dependency comes from another registry than the default one.
    pub(crate) registry: Option<String>,
}

/// One library, program or test of a crate.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: String,
}

impl Metadata {
    /// Asks cargo.
    ///
    /// # Errors
    /// The lock file is out of date or a manifest is broken.
    pub(crate) fn read() -> Outcome<Self> {
        let call = Call::new("cargo").args(["metadata", "--format-version", "1", "--locked"]);
        let text = call.args(["--filter-platform", PLATFORM]).quiet()?;
        let mut metadata: Self = serde_json::from_str(&text).doing("reading cargo metadata")?;
        metadata.built = built()?;
        Ok(metadata)
    }

    /// The crates of this workspace.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }

    /// Every crate that is really part of the build on our platform.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|p| self.built.contains(&format!("{} v{}", p.name, p.version)))
    }
}

/// `cargo metadata` also lists optional crates that nobody switched on, `cargo tree` only what is built.
fn built() -> Outcome<BTreeSet<String>> {
    let call = Call::new("cargo").args(["tree", "--workspace", "--locked", "--prefix", "none"]);
    let text = call.args(["--edges", "normal,build,dev", "--format", "{p}", "--target", PLATFORM]).quiet()?;
    let words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Ok(text.lines().filter(|line| !line.is_empty()).map(words).collect())
}

impl Package {
    pub(crate) fn is_library(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "lib"))
            && !self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "bin"))
    }
}
