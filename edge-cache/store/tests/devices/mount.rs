//! File systems of our own, which only root can have. Everybody else skips, with a message.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; gone with this value.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// One of 1 MiB, in memory.
    pub(crate) fn small(at: &Path) -> Option<Self> {
        Self::new(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], at)
    }

    /// A new one of this kind in a file, which can lose its power.
    pub(crate) fn in_file(kind: &str, file: &Path, at: &Path) -> Option<Self> {
        let image = File::create(file).expect("a file");
        image.set_len(320 << 20).expect("as large as xfs wants it");
        let made = run(&format!("mkfs.{kind}"), &["-q", text(file)]);
        if !made {
            eprintln!("skipped: no {kind} can be made here");
            return None;
        }
        Self::again(file, at)
    }

    /// What is in the file, as a machine finds it that has its power back.
    pub(crate) fn again(file: &Path, at: &Path) -> Option<Self> {
        Self::new(&["-o", "loop", text(file)], at)
    }

    fn new(what: &[&str], at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory");
        if !run("mount", &[what, &[text(at)]].concat()) {
            eprintln!("skipped: no file system can be mounted here");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn read_only(&self) {
        assert!(run("mount", &["-o", "remount,ro", text(&self.0)]));
    }

    /// Stops the file system at once: what it has not written yet, its journal included, is never written.
    pub(crate) fn lose_power(&self) -> bool {
        let stopped = run("xfs_io", &["-x", "-c", "shutdown", text(&self.0)]);
        if !stopped {
            eprintln!("skipped: nothing stops a file system here");
        }
        stopped
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !run("umount", &[text(&self.0)]) {
            // Something is still open.
            run("umount", &["-l", text(&self.0)]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}
