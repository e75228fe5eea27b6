//! What whoever supervises this process is told: which process serves.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

/// Writes this process's number. Whoever reads the file never sees half of it.
pub(crate) fn write_pid_file(path: &Path) -> io::Result<()> {
    write_whole(path, format!("{}\n", std::process::id()).as_bytes())
}

/// Removes the file if it still names this process.
pub(crate) fn remove_pid_file(path: &Path) {
    let ours = std::fs::read_to_string(path).is_ok_and(|text| text.trim() == std::process::id().to_string());
    if ours && let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "the pid file could not be removed");
    }
}

/// Puts a file in place with one rename.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("part");
    std::fs::write(&unfinished, bytes)?;
    std::fs::rename(unfinished, path)
}

/// Tells systemd (`Type=notify`) that this process is ready and is the service's main one. `socket` is what the
/// environment says; without it nobody waits to hear.
pub(crate) fn notify(socket: Option<&OsStr>) -> io::Result<()> {
    let Some(socket) = socket else { return Ok(()) };
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let message = format!("READY=1\nMAINPID={}\n", std::process::id());
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_is_removed_by_its_own_process_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("weir.pid");
        write_pid_file(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(text, format!("{}\n", std::process::id()));
        remove_pid_file(&path);
        assert!(!path.exists());
        std::fs::write(&path, "1\n").expect("written");
        remove_pid_file(&path);
        assert!(path.exists(), "another process's");
    }

    #[test]
    fn systemd_hears_who_serves() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).expect("bound");
        notify(Some(path.as_os_str())).expect("sent");
        let mut message = [0; 64];
        let len = systemd.recv(&mut message).expect("received");
        let expected = format!("READY=1\nMAINPID={}\n", std::process::id());
        assert_eq!(&message[..len], expected.as_bytes());
        assert!(notify(None).is_ok());
        assert!(notify(Some(OsStr::new("/nowhere/at/all"))).is_err());
    }
}
