//! The port of an origin: open, closed, or there and yet out of reach.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Shared;
use crate::clock::until;
use crate::failure::{Context, Failure, Outcome};

/// Connections the kernel holds for an origin that answers.
const BACKLOG: i32 = 1024;
/// A connection over the loopback that takes longer will not come about.
const OUT_OF_REACH: Duration = Duration::from_millis(100);
/// How long the port of an origin that was closed may be in use elsewhere.
const PORT_LIMIT: Duration = Duration::from_secs(30);
/// More connections than any kernel holds when it was asked to hold none.
const CROWD: usize = 16;

/// The listening socket, while there is one, and who answers it.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    listener: Option<Arc<TcpListener>>,
    accepting: Option<JoinHandle<()>>,
    /// Connections of our own that take up the kernel's queue.
    crowd: Vec<TcpStream>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
    }
}

impl Door {
    /// Opens a free port.
    pub(super) async fn open(shared: &Arc<Shared>) -> Outcome<(Self, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.doing("the origin's port")?;
        let address = listener.local_addr().doing("the origin's port")?;
        let listener = Some(Arc::new(listener));
        let mut door = Self { address, listener, accepting: None, crowd: Vec::new() };
        door.accept(shared).await?;
        Ok((door, address))
    }

    /// Takes connections, wherever it stood before.
    pub(super) async fn accept(&mut self, shared: &Arc<Shared>) -> Outcome {
        if self.accepting.is_some() {
            return Ok(());
        }
        self.crowd.clear();
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => Arc::new(self.bind_again().await?),
        };
        SockRef::from(&*listener).listen(BACKLOG).doing("the origin's port")?;
        self.listener = Some(Arc::clone(&listener));
        let serving = Arc::clone(shared);
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A connection that breaks ends itself and nothing else.
                tokio::spawn(async move { shared.serve(socket).await });
            }
        }));
        Ok(())
    }

    /// Somebody's outgoing connection may have taken the free port for a moment.
    async fn bind_again(&self) -> Outcome<TcpListener> {
        let bind = async || TcpListener::bind(self.address).await.ok();
        until("the origin's port is free again", PORT_LIMIT, bind).await
    }

    /// Closes the port: whoever connects is refused.
    pub(super) async fn close(&mut self) {
        self.rest().await;
        self.listener = None;
        self.crowd.clear();
    }

    /// Keeps the port and lets nobody in: with its queue full and nobody to accept, the kernel does not answer.
    pub(super) async fn block(&mut self) -> Outcome {
        self.rest().await;
        let listener = self.listener.as_ref().doing("a port to block")?;
        SockRef::from(&**listener).listen(0).doing("the origin's port")?;
        while self.crowd.len() < CROWD {
            match timeout(OUT_OF_REACH, TcpStream::connect(self.address)).await {
                Ok(socket) => self.crowd.push(socket.doing("filling the origin's queue")?),
                Err(_) => return Ok(()),
            }
        }
        Err(Failure::new("the kernel goes on taking connections for an origin that takes none"))
    }

    /// Nobody accepts any more.
    async fn rest(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // That it was aborted is what was wanted; after this the listener is ours alone.
            let _ = accepting.await;
        }
    }
}
