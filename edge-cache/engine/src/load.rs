//! How loaded the node is, as its governor says it: one level that every room reads.

use tokio::sync::watch;

/// What the node no longer does; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// Everything is done.
    #[default]
    Calm,
    /// Nothing is fetched ahead of a viewer.
    NoPrefetch,
    /// Neighbours hear "busy".
    NoUploads,
    /// What is bought stays in memory; nothing is finished or promoted in the background.
    NoDiskAdmission,
    /// New sessions are sent to the CDN.
    NoNewSessions,
    /// Requests are refused.
    Refusing,
}

impl Level {
    /// Every level, the calmest first.
    pub const ALL: [Self; 6] = [
        Self::Calm,
        Self::NoPrefetch,
        Self::NoUploads,
        Self::NoDiskAdmission,
        Self::NoNewSessions,
        Self::Refusing,
    ];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::NoPrefetch => "no-prefetch",
            Self::NoUploads => "no-uploads",
            Self::NoDiskAdmission => "no-disk-admission",
            Self::NoNewSessions => "no-new-sessions",
            Self::Refusing => "refusing",
        }
    }
}

/// The level of now.
#[derive(Debug, Default)]
pub struct Load(watch::Sender<Level>);

impl Load {
    /// Says how loaded the node is from now on.
    pub fn set(&self, level: Level) {
        self.0.send_if_modified(|now| std::mem::replace(now, level) != level);
    }

    /// How loaded the node is.
    #[must_use]
    pub fn level(&self) -> Level {
        *self.0.borrow()
    }

    /// For whoever must hear of a change at once.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Level> {
        self.0.subscribe()
    }

    /// Whether neighbours are still served.
    #[must_use]
    pub fn allows_uploads(&self) -> bool {
        self.level() < Level::NoUploads
    }

    /// Whether the disk still takes what is bought, and whether anything is done in the background.
    #[must_use]
    pub fn allows_disk(&self) -> bool {
        self.level() < Level::NoDiskAdmission
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_includes_those_before_it() {
        let load = Load::default();
        assert_eq!(load.level(), Level::Calm);
        for (level, uploads, disk) in [
            (Level::Calm, true, true),
            (Level::NoPrefetch, true, true),
            (Level::NoUploads, false, true),
            (Level::NoDiskAdmission, false, false),
            (Level::NoNewSessions, false, false),
            (Level::Refusing, false, false),
        ] {
            load.set(level);
            assert_eq!(load.level(), level);
            assert_eq!((load.allows_uploads(), load.allows_disk()), (uploads, disk), "{}", level.as_str());
        }
    }
}
