//! A node's process from its first breath to its last: start or take over, serve, be told to stop, to reload or
//! that another process wants to take over.

use std::error::Error;
use std::ffi::OsString;

use front::Inheritance;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::heir::Heir;
use crate::materials::Materials;
use crate::node::Node;
use crate::supervisor;
use crate::takeover::{Door, Estate, Predecessor, Successor, hand_over};

/// How this process was started.
pub(crate) struct Setup {
    /// In place of another process.
    pub(crate) takeover: bool,
    /// Where a supervisor wants to hear who serves.
    pub(crate) supervisor: Option<OsString>,
    /// Who comes next.
    pub(crate) heir: Heir,
}

type Fatal = Box<dyn Error + Send + Sync>;

/// Why a process ends.
enum End {
    Stop,
    TakenOver,
}

/// The whole life.
pub(crate) async fn live(config: &Config, materials: Materials, setup: Setup) -> Result<(), Fatal> {
    let mut signals = Signals::new()?;
    let begun = tokio::select! {
        biased;
        () = signals.stop() => return Ok(()),
        begun = begin(config, materials, setup.takeover) => begun,
    };
    let (node, alone) = begun?;
    // In place of the predecessor's, which is ours from now on.
    let door = open_door(config);
    let announced = announce(&node, config);
    if let Err(error) = supervisor::notify(setup.supervisor.as_deref()) {
        tracing::warn!(%error, "the supervisor could not be told that this process serves");
    }
    match announced {
        Err(error) if alone => return Err(error),
        // There is no other process any more that could serve in its place.
        Err(error) => tracing::error!(%error, "this process serves, but not everybody could be told"),
        Ok(()) => {}
    }
    let end = serve(&node, config, door.as_ref(), setup.heir, &mut signals).await;
    match end {
        End::Stop => {
            tokio::select! {
                biased;
                () = signals.stop() => tracing::warn!("told to stop a second time: stopping at once"),
                () = node.stop(config) => {}
            }
            config.pid_file.iter().for_each(|path| supervisor::remove_pid_file(path));
        }
        End::TakenOver => {
            // A supervisor that stops the node tells all its processes; this one is stopping already.
            let twice = async {
                signals.stop().await;
                signals.stop().await;
            };
            tokio::select! {
                biased;
                () = twice => tracing::warn!("told to stop twice: stopping at once"),
                () = node.retire(config) => {}
            }
        }
    }
    Ok(())
}

fn announce(node: &Node, config: &Config) -> Result<(), Fatal> {
    node.announce(config)?;
    if let Some(path) = &config.pid_file {
        supervisor::write_pid_file(path).map_err(|error| format!("pid_file: {error}"))?;
    }
    Ok(())
}

/// A node that serves: alone (true), or in place of the process that did before.
async fn begin(config: &Config, materials: Materials, takeover: bool) -> Result<(Node, bool), Fatal> {
    let path = &config.takeover_socket;
    let predecessor = if takeover { Predecessor::meet(path, config.takeover_timeout).await? } else { None };
    let Some(predecessor) = predecessor else {
        if takeover {
            tracing::info!(path = %path.display(), "nobody to take over from: starting as usual");
        }
        return Ok((Node::start(config, materials, &mut Inheritance::default()).await?, true));
    };
    Ok((succeed(config, materials, predecessor).await?, false))
}

async fn succeed(config: &Config, materials: Materials, mut from: Predecessor) -> Result<Node, Fatal> {
    let mut inheritance = from.release().await?;
    let started = tokio::select! {
        biased;
        // It wants its disks and its port back, and it wants them now.
        gone = from.gone() => return Err(gone.into()),
        started = Node::start(config, materials, &mut inheritance) => started,
    };
    let node = match started {
        Ok(node) => node,
        Err(error) => {
            from.give_up(&error.to_string()).await;
            return Err(error.into());
        }
    };
    inheritance.left().for_each(|address| tracing::info!(%address, "no longer configured: closed"));
    drop(inheritance);
    if let Err(error) = from.ready().await {
        // The other one goes on, and needs what only one can hold. Whom we have accepted already is served to the
        // end.
        node.release().await;
        node.retire(config).await;
        return Err(error.into());
    }
    tracing::info!("took over");
    Ok(node)
}

/// Without its door a node serves all the same; it only cannot be replaced without a gap.
fn open_door(config: &Config) -> Option<Door> {
    let path = &config.takeover_socket;
    let opened = Door::open(path);
    let told = |error| tracing::warn!(path = %path.display(), %error, "no other process can take over from this one");
    opened.map_err(told).ok()
}

/// Serves until there is a reason to end.
async fn serve(
    node: &Node,
    config: &Config,
    door: Option<&Door>,
    mut heir: Heir,
    signals: &mut Signals,
) -> End {
    loop {
        let successor = tokio::select! {
            biased;
            told = signals.next() => match told {
                Told::Stop => return End::Stop,
                // Whoever stops the node does not wait for the check of a configuration.
                Told::Reload => tokio::select! {
                    biased;
                    () = signals.stop() => return End::Stop,
                    () = heir.start() => continue,
                },
            },
            () = heir.ended() => continue,
            successor = Successor::at(door, config.takeover_timeout) => successor,
        };
        tracing::info!(process = successor.process(), "another process wants to take over");
        let handed = tokio::select! {
            biased;
            () = signals.stop() => return End::Stop,
            handed = hand_over(successor, node) => handed,
        };
        match handed {
            Ok(()) => {
                node.count_takeover("done");
                return End::TakenOver;
            }
            Err(error) => {
                node.count_takeover("failed");
                tracing::error!(%error, "no takeover: this process goes on");
            }
        }
    }
}

/// What a signal wants.
enum Told {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }

    /// Waits until somebody wants the node to stop; a reload must wait for another moment.
    async fn stop(&mut self) {
        loop {
            match self.next().await {
                Told::Stop => return,
                Told::Reload => {
                    tracing::warn!("SIGHUP: not now; this process is starting, stopping or being replaced");
                }
            }
        }
    }
}
