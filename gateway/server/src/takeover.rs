//! One process of a node takes over from another, so that a new binary or configuration refuses no connection
//! and cuts no response. `DESIGN.md` beside the sources tells the whole story; in short:
//!
//! ```text
//! new                                     old
//! reads and checks everything
//! Hello               ------------------>
//!                     <------------------ Welcome
//! Release             ------------------> lets go of disks and neighbours; goes on serving viewers
//!                     <------------------ Sockets
//! opens the store, accepts beside the old
//! Ready               ------------------>
//!                     <------------------ Yours; stops accepting, ends its responses, exits
//! ```
//!
//! Whatever goes wrong before `Yours` leaves the old process in charge: it takes back what it let go.

mod channel;
mod wire;

use std::io;
use std::path::Path;
use std::time::Duration;

use front::{Inheritance, Listening};
use tokio::time::{Instant, timeout, timeout_at};

use self::channel::Channel;
pub(crate) use self::channel::Door;
use self::wire::{Addresses, Message, VERSION};

/// Why there was no takeover.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverError {
    /// The conversation broke off.
    #[error("the other process is gone or does not understand: {0}")]
    Channel(#[from] io::Error),
    /// No answer in time.
    #[error("the other process took longer than takeover_timeout")]
    Timeout,
    /// The other process does not want to.
    #[error("the other process refused: {0}")]
    Refused(String),
    /// The new process could not start.
    #[error("the new process gave up: {0}")]
    GaveUp(String),
    /// A message out of turn.
    #[error("the other process said {0} out of turn")]
    OutOfTurn(String),
}

fn out_of_turn(message: Message) -> TakeoverError {
    match message {
        Message::Refused { reason } => TakeoverError::Refused(reason),
        Message::GaveUp { reason } => TakeoverError::GaveUp(reason),
        other => TakeoverError::OutOfTurn(format!("{other:?}")),
    }
}

/// The process that serves now, as its successor sees it.
pub(crate) struct Predecessor {
    channel: Channel,
    patience: Duration,
    deadline: Instant,
}

impl Predecessor {
    /// Introduces this process to the one that listens at `path`; `None` when there is none.
    pub(crate) async fn meet(path: &Path, patience: Duration) -> Result<Option<Self>, TakeoverError> {
        let Some(channel) = Channel::connect(path).await? else { return Ok(None) };
        let mut met = Self { channel, patience, deadline: Instant::now() + patience };
        match met.ask(&Message::Hello { version: VERSION }).await? {
            Message::Welcome => Ok(Some(met)),
            other => Err(out_of_turn(other)),
        }
    }

    /// Asks for everything that only one process can hold; the listening sockets come as an inheritance.
    pub(crate) async fn release(&mut self) -> Result<Inheritance, TakeoverError> {
        let addresses = match self.ask(&Message::Release).await? {
            Message::Sockets(addresses) => addresses,
            other => return Err(out_of_turn(other)),
        };
        let sockets = self.channel.take_sockets();
        if sockets.len() != addresses.len() {
            return Err(TakeoverError::OutOfTurn(format!(
                "{} sockets in place of {}",
                sockets.len(),
                addresses.len()
            )));
        }
        let listening = sockets.into_iter().zip(addresses);
        let listening: Vec<Listening> = listening
            .map(|(socket, Addresses { asked, bound })| Listening { asked, bound, socket })
            .collect();
        Ok(listening.into())
    }

    /// Waits until the other process hangs up or says something out of turn: it has taken back what it gave.
    pub(crate) async fn gone(&mut self) -> TakeoverError {
        self.channel.receive().await.map_or_else(TakeoverError::Channel, out_of_turn)
    }

    /// Says that this process serves. When it returns well, the other one has stopped accepting.
    pub(crate) async fn ready(mut self) -> Result<(), TakeoverError> {
        // The other one decides, and says so at once. Whoever looked at the clock here could leave just when it
        // says yes, and then nobody would serve.
        self.deadline = Instant::now() + self.patience;
        match self.ask(&Message::Ready).await? {
            Message::Yours => Ok(()),
            other => Err(out_of_turn(other)),
        }
    }

    /// Says that this process will not serve, and why.
    pub(crate) async fn give_up(mut self, reason: &str) {
        let message = Message::GaveUp { reason: reason.to_owned() };
        // It may be gone; then there is nobody to tell.
        let _ = timeout_at(self.deadline, self.channel.send(&message, &[])).await;
    }

    async fn ask(&mut self, message: &Message) -> Result<Message, TakeoverError> {
        let asked = async {
            self.channel.send(message, &[]).await?;
            self.channel.receive().await
        };
        Ok(timeout_at(self.deadline, asked).await.map_err(|_| TakeoverError::Timeout)??)
    }
}

/// What the old process does in a takeover.
pub(crate) trait Estate {
    /// Lets go of what only one process can hold.
    async fn release(&self);
    /// The listening sockets.
    fn listening(&self) -> io::Result<Vec<Listening>>;
    /// Takes back what [`Estate::release`] let go.
    async fn take_back(&self);
}

/// Waits for the next process that comes in by `door` and hands everything over to it. When it returns well,
/// the other process serves. On an error, or when the caller walks away before `Release`, nothing has changed.
pub(crate) async fn hand_over(successor: Successor, estate: &impl Estate) -> Result<(), TakeoverError> {
    let Successor { mut channel, patience } = successor;
    timeout(patience, greet(&mut channel)).await.map_err(|_| TakeoverError::Timeout)??;
    let handed = timeout(patience, give(&mut channel, estate)).await;
    let handed = handed.map_err(|_| TakeoverError::Timeout).and_then(|handed| handed);
    if handed.is_err() {
        drop(channel);
        estate.take_back().await;
    }
    handed
}

/// A process that wants to take over.
pub(crate) struct Successor {
    channel: Channel,
    patience: Duration,
}

impl Successor {
    /// The next one at the door; never, without a door.
    pub(crate) async fn at(door: Option<&Door>, patience: Duration) -> Self {
        match door {
            Some(door) => Self { channel: door.next().await, patience },
            None => std::future::pending().await,
        }
    }

    /// Its process.
    pub(crate) fn process(&self) -> Option<i32> {
        self.channel.process()
    }
}

async fn greet(channel: &mut Channel) -> Result<(), TakeoverError> {
    match channel.receive().await? {
        Message::Hello { version: VERSION } => channel.send(&Message::Welcome, &[]).await?,
        Message::Hello { version } => {
            let reason = format!("takeover version {version} is not spoken here, but {VERSION}");
            channel.send(&Message::Refused { reason: reason.clone() }, &[]).await?;
            return Err(TakeoverError::OutOfTurn(reason));
        }
        other => return Err(out_of_turn(other)),
    }
    match channel.receive().await? {
        Message::Release => Ok(()),
        other => Err(out_of_turn(other)),
    }
}

async fn give(channel: &mut Channel, estate: &impl Estate) -> Result<(), TakeoverError> {
    estate.release().await;
    let mut addresses = Vec::new();
    let mut sockets = Vec::new();
    for Listening { asked, bound, socket } in estate.listening()? {
        addresses.push(Addresses { asked, bound });
        sockets.push(socket);
    }
    channel.send(&Message::Sockets(addresses), &sockets).await?;
    match channel.receive().await? {
        Message::Ready => Ok(channel.send(&Message::Yours, &[]).await?),
        other => Err(out_of_turn(other)),
    }
}

#[cfg(test)]
mod tests;
