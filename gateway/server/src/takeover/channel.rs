//! Messages and sockets over one Unix socket, and the place where such a socket is found.

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;

use super::wire::{MAX_SOCKETS, Message};

/// Room for the sockets of one message.
const ROOM: usize = rustix::cmsg_space!(ScmRights(MAX_SOCKETS));

/// How long to leave the door alone after nobody could be let in (usually: no file descriptors left).
const PAUSE: Duration = Duration::from_millis(50);

/// One end of a conversation.
pub(super) struct Channel {
    stream: UnixStream,
    unread: Vec<u8>,
    sockets: Vec<OwnedFd>,
}

impl Channel {
    fn new(stream: UnixStream) -> Self {
        Self { stream, unread: Vec::new(), sockets: Vec::new() }
    }

    /// To whoever listens at `path`; `None` when nobody does. What a stranger hands out is not taken.
    pub(super) async fn connect(path: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(path).await {
            Ok(stream) => {
                let (user, own) = (stream.peer_cred()?.uid(), own_user());
                // Root may take over from a service's user.
                if own != 0 && !is_trusted(user, own) {
                    return Err(io::Error::other(format!(
                        "user {user} listens there, and this is user {own}"
                    )));
                }
                Ok(Some(Self::new(stream)))
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The process at the other end, as the kernel knows it.
    pub(super) fn process(&self) -> Option<i32> {
        self.stream.peer_cred().ok()?.pid()
    }

    pub(super) async fn send(&mut self, message: &Message, sockets: &[OwnedFd]) -> io::Result<()> {
        let bytes = message.encode();
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        let sent = self.stream.async_io(Interest::WRITABLE, || {
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut beside = SendAncillaryBuffer::new(&mut room);
            if !sockets.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(&sockets)) {
                return Err(io::Error::other("more sockets than one message carries"));
            }
            Ok(sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?)
        });
        let sent = sent.await?;
        self.stream.write_all(&bytes[sent..]).await
    }

    /// The next message. An error when the other end is gone or speaks another language.
    pub(super) async fn receive(&mut self) -> io::Result<Message> {
        loop {
            let decoded = Message::decode(&self.unread);
            if let Some((message, len)) = decoded.map_err(io::Error::other)? {
                self.unread.drain(..len);
                return Ok(message);
            }
            self.read().await?;
        }
    }

    /// The sockets that have come so far.
    pub(super) fn take_sockets(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    async fn read(&mut self) -> io::Result<()> {
        let (mut bytes, mut sockets) = ([0; 4096], Vec::new());
        let read = self.stream.async_io(Interest::READABLE, || {
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut beside = RecvAncillaryBuffer::new(&mut room);
            let into = &mut [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(&self.stream, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            for message in beside.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    sockets.extend(rights);
                }
            }
            Ok(received.bytes)
        });
        let read = read.await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(&bytes[..read]);
        self.sockets.append(&mut sockets);
        Ok(())
    }
}

/// Whether a user may take part in a takeover of this user's process.
fn is_trusted(user: u32, own: u32) -> bool {
    user == own || user == 0
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Where the next process finds this one.
pub(crate) struct Door {
    listener: UnixListener,
}

impl Door {
    /// Listens at `path`, in place of whoever did before: the socket gets its mode first and its name last, so
    /// that at no moment nobody is there or anybody may come in.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let unfinished = PathBuf::from(format!("{}.new", path.display()));
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unfinished)?;
        std::fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
        std::fs::rename(&unfinished, path)?;
        Ok(Self { listener })
    }

    /// The next process that wants to take over. Others than this user's and root's are turned away.
    pub(super) async fn next(&self) -> Channel {
        loop {
            let came = self.listener.accept().await.and_then(|(stream, _)| Ok((stream.peer_cred()?, stream)));
            match came {
                Ok((who, stream)) if is_trusted(who.uid(), own_user()) => return Channel::new(stream),
                Ok((who, _)) => {
                    tracing::warn!(user = who.uid(), process = who.pid(), "a stranger wanted to take over");
                }
                // Whoever waits keeps the socket ready: without a pause this would go round and round.
                Err(error) => {
                    tracing::warn!(%error, "whoever wants to take over cannot be let in now; pausing");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user_and_root_take_part() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000) && is_trusted(0, 0));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
    }
}
