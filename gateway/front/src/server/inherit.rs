//! Listening sockets that pass from one process to the next, so that no connection is refused in between.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// One listening socket.
#[derive(Debug)]
pub struct Listening {
    /// The address of the configuration that it was bound for; the port may be 0.
    pub asked: SocketAddr,
    /// The address it has.
    pub bound: SocketAddr,
    /// The socket, shared with whoever else holds it: what one process leaves in its queue the other accepts.
    pub socket: OwnedFd,
}

impl Listening {
    pub(crate) fn of(asked: SocketAddr, bound: SocketAddr, socket: &impl AsFd) -> io::Result<Self> {
        Ok(Self { asked, bound, socket: socket.as_fd().try_clone_to_owned()? })
    }
}

/// What a process took over from the one before it. What nobody takes out is closed when this is dropped.
#[derive(Debug, Default)]
pub struct Inheritance(Vec<Listening>);

impl Inheritance {
    /// Whether there was a process before this one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The addresses that nobody has taken out.
    pub fn left(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|listening| listening.bound)
    }

    /// Takes the socket for an address of the configuration out: one that was asked for in the same words, else
    /// one that has this very address.
    pub(crate) fn take(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        let asked = |listening: &Listening| listening.asked == address;
        let bound = |listening: &Listening| listening.bound == address;
        let at = self.0.iter().position(asked).or_else(|| self.0.iter().position(bound))?;
        Some(self.0.remove(at).socket)
    }
}

impl From<Vec<Listening>> for Inheritance {
    fn from(listening: Vec<Listening>) -> Self {
        Self(listening)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_are_found_by_the_words_of_the_configuration_then_by_their_address() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let listeners = [0; 3].map(|_| TcpListener::bind(any).expect("bound"));
        let bound = listeners.each_ref().map(|listener| listener.local_addr().expect("an address"));
        let of = |at: usize, asked| Listening::of(asked, bound[at], &listeners[at]).expect("cloned");
        let mut inheritance = Inheritance::from(vec![of(0, any), of(1, any), of(2, bound[2])]);
        let mut take = |address| {
            let socket = inheritance.take(address)?;
            TcpListener::from(socket).local_addr().ok()
        };
        assert_eq!(take(bound[1]), Some(bound[1]), "once asked for as any port, now by its name");
        assert_eq!(take(any), Some(bound[0]));
        assert_eq!(take(any), None);
        assert_eq!(take(bound[0]), None, "each once");
        assert_eq!(inheritance.left().collect::<Vec<_>>(), [bound[2]]);
    }
}
