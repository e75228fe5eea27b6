//! File systems of our own that may be full, or lose power. Both need root.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::until;
use crate::failure::{Context, Outcome};
use crate::gateway::run;

/// How long a killed process may still hold files.
const RELEASE: Duration = Duration::from_secs(10);

/// A mounted file system; it is unmounted with its value.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    /// The image behind a loop mount; none for a file system in memory.
    image: Option<PathBuf>,
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily, because a gateway that is being killed may still hold it.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

impl Volume {
    /// A file system in memory of this size, such as `32m`. `None` if this machine does not let us.
    pub(crate) async fn memory(path: &Path, size: &str) -> Outcome<Option<Self>> {
        fs::create_dir_all(path).doing(path.display())?;
        let shown = path.display().to_string();
        let mounted = run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", &shown]).await;
        Ok(mounted.is_ok().then(|| Self { path: path.to_owned(), image: None }))
    }

    /// An XFS in a file beside it. `None` if this machine does not let us.
    pub(crate) async fn xfs(path: &Path, bytes: u64) -> Outcome<Option<Self>> {
        fs::create_dir_all(path).doing(path.display())?;
        let image = path.with_extension("xfs");
        let file = File::create(&image).doing(image.display())?;
        file.set_len(bytes).doing(image.display())?;
        if run("mkfs.xfs", &["-q", &image.display().to_string()]).await.is_err() {
            return Ok(None);
        }
        let volume = Self { path: path.to_owned(), image: Some(image) };
        Ok(volume.mount().await.is_ok().then_some(volume))
    }

    async fn mount(&self) -> Outcome {
        let image = self.image.as_ref().doing("an image to mount")?.display().to_string();
        run("mount", &["-o", "loop,nouuid", &image, &self.path.display().to_string()]).await.map(drop)
    }

    /// The power goes: nothing that was not synced is there any more, and every operation fails from now on.
    pub(crate) async fn lose_power(&self) -> Outcome {
        let path = self.path.display().to_string();
        run("xfs_io", &["-x", "-c", "shutdown", &path]).await.map(drop)
    }

    /// The power comes back: the file system repairs itself as it does at every mount after a crash.
    pub(crate) async fn restore_power(&self) -> Outcome {
        let path = self.path.display().to_string();
        // The kernel lets go of a killed process's files a moment after the process.
        until("the dead file system is let go of", RELEASE, async || run("umount", &[&path]).await.ok())
            .await?;
        self.mount().await
    }

    /// Somebody mends the disk under a gateway that runs. Returns whether the gateway had let go of it; otherwise
    /// the dead file system stays where it is, out of sight, and a copy of the disk comes in its place.
    pub(crate) async fn mend(&mut self) -> Outcome<bool> {
        let path = self.path.display().to_string();
        if run("umount", &[&path]).await.is_ok() {
            return self.mount().await.map(|()| true);
        }
        run("umount", &["-l", &path]).await?;
        let image = self.image.as_ref().doing("an image to mount")?;
        let copy = image.with_extension("copy");
        fs::copy(image, &copy).doing(copy.display())?;
        self.image = Some(copy);
        self.mount().await.map(|()| false)
    }
}
