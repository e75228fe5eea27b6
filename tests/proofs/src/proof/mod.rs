//! The proofs, by name.

mod damage;
mod dead_sources;
mod disk;
mod failover;
mod failover_players;
mod faults;
mod hedge;
mod herd;
mod kill;
mod memory;
mod overload;
mod players;
mod power;
mod purge;
mod range;
mod restart;
mod throttle;
mod upgrade;

use clap::ValueEnum;

use crate::Stage;
use crate::facts::Facts;
use crate::failure::Outcome;

/// What can be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proof {
    /// ffmpeg, GStreamer, mpv, VLC, hls.js and Chromium itself each play without an error
    Players,
    /// The cheapest source goes bad in the middle of segments, and no player notices
    FailoverPlayers,
    /// Everything goes wrong at once, and no response ends cleanly with a wrong byte
    Faults,
    /// A source dies at any point, and ten of ten viewers get everything
    Failover,
    /// A dead source is not noticed, and when all are dead nobody waits and nobody storms
    DeadSources,
    /// One answer in a hundred takes a second, and no viewer waits for it
    Hedge,
    /// A bucket that says "slow down" is given its rest, and no viewer hears of it
    Throttle,
    /// A thousand viewers of one cold segment cost one upstream read
    Herd,
    /// Every block of the disk tier is damaged in every way, and no viewer sees it
    Damage,
    /// Killed again and again, the gateway still has what it had stored
    Kill,
    /// The power goes again and again, and what was counted as stored is still there
    Power,
    /// A disk is full or fails, and no viewer notices
    Disk,
    /// A range of a cold segment costs about itself, and the rest costs the rest
    Range,
    /// Ten thousand idle and a thousand slow viewers fit into what is configured
    Memory,
    /// What is purged is gone within 100 ms, for good, and for fills that run
    Purge,
    /// Three times as many viewers as the node is built for: what it is built for is served
    Overload,
    /// A new process takes over under hundreds of downloads, and nobody notices
    Upgrade,
    /// A million objects on disk: two seconds from start to the first hit, a hundred bytes of memory each
    Restart,
}

impl Proof {
    /// Every proof that has this form. The short one goes without the players of the distribution.
    pub(crate) fn all(short: bool) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|proof| !short || *proof != Self::Players).collect()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Players => "players",
            Self::FailoverPlayers => "failover-players",
            Self::Faults => "faults",
            Self::Failover => "failover",
            Self::DeadSources => "dead-sources",
            Self::Hedge => "hedge",
            Self::Throttle => "throttle",
            Self::Herd => "herd",
            Self::Damage => "damage",
            Self::Kill => "kill",
            Self::Power => "power",
            Self::Disk => "disk",
            Self::Range => "range",
            Self::Memory => "memory",
            Self::Purge => "purge",
            Self::Overload => "overload",
            Self::Upgrade => "upgrade",
            Self::Restart => "restart",
        }
    }

    /// What it proves, as the command line says it.
    pub(crate) fn claim(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    pub(crate) async fn run(self, stage: &Stage, facts: &mut Facts) -> Outcome {
        match self {
            Self::Players => players::run(stage, facts).await,
            Self::FailoverPlayers => failover_players::run(stage, facts).await,
            Self::Faults => faults::run(stage, facts).await,
            Self::Failover => failover::run(stage, facts).await,
            Self::DeadSources => dead_sources::run(stage, facts).await,
            Self::Hedge => hedge::run(stage, facts).await,
            Self::Throttle => throttle::run(stage, facts).await,
            Self::Herd => herd::run(stage, facts).await,
            Self::Damage => damage::run(stage, facts).await,
            Self::Kill => kill::run(stage, facts).await,
            Self::Power => power::run(stage, facts).await,
            Self::Disk => disk::run(stage, facts).await,
            Self::Range => range::run(stage, facts).await,
            Self::Memory => memory::run(stage, facts).await,
            Self::Purge => purge::run(stage, facts).await,
            Self::Overload => overload::run(stage, facts).await,
            Self::Upgrade => upgrade::run(stage, facts).await,
            Self::Restart => restart::run(stage, facts).await,
        }
    }
}
