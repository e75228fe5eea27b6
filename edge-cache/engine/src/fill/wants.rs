//! Who wants which groups of a fill, and what is here.

use std::collections::BTreeMap;
use std::sync::Arc;

use media::GroupSet;
use tokio::time::Instant;

use super::plan::{Limits, Plan, Run, plan};
use super::strand::Strand;
use crate::error::ServeError;

/// The state of a fill that its readers and its task share.
pub(crate) struct Wants {
    next_id: u64,
    /// Viewers who came here first, as opposed to those who went on here after a tier or a fill let them down.
    newcomers: u64,
    /// Who reads, in the order they came.
    readers: BTreeMap<u64, Waiting>,
    /// What the fill fetches although nobody waits for it.
    own: Option<GroupSet>,
    here: GroupSet,
    pub(super) strands: Vec<Arc<Strand>>,
    /// A strand found no source: none is started any more.
    failure: Option<ServeError>,
    closed: bool,
}

/// One reader, as its fill sees it.
struct Waiting {
    lacks: Arc<GroupSet>,
    needed_by: Option<Instant>,
}

/// What a reader who waits for a group may expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// It is on its way, or will be.
    Coming,
    /// The fill ended without it.
    Closed,
    /// No source delivers it.
    Failed(ServeError),
}

impl Wants {
    pub(super) fn new(len: u64) -> Self {
        Self {
            next_id: 0,
            newcomers: 0,
            readers: BTreeMap::new(),
            own: None,
            here: GroupSet::none(len),
            strands: Vec::new(),
            failure: None,
            closed: false,
        }
    }

    pub(super) fn join(&mut self, lacks: Arc<GroupSet>, newcomer: bool, needed_by: Option<Instant>) -> u64 {
        self.next_id += 1;
        self.newcomers += u64::from(newcomer);
        self.readers.insert(self.next_id, Waiting { lacks, needed_by });
        self.next_id
    }

    /// Tells whether that was the last one.
    pub(super) fn leave(&mut self, id: u64) -> bool {
        self.readers.remove(&id);
        self.readers.is_empty()
    }

    pub(super) fn readers(&self) -> usize {
        self.readers.len()
    }

    /// How many viewers came here first.
    pub(super) fn newcomers(&self) -> u64 {
        self.newcomers
    }

    pub(super) fn arrived(&mut self, n: u64) {
        self.here.insert(n);
    }

    pub(super) fn here(&self) -> &GroupSet {
        &self.here
    }

    pub(super) fn close(&mut self, error: Option<ServeError>) {
        self.closed = true;
        self.failure = self.failure.take().or(error);
    }

    /// Closes the fill if nothing is wanted that is not here.
    pub(super) fn close_if_idle(&mut self) -> bool {
        self.closed |= self.is_idle();
        self.closed
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn fail(&mut self, error: ServeError) {
        self.failure.get_or_insert(error);
        self.own = None;
    }

    pub(super) fn failure(&self) -> Option<&ServeError> {
        self.failure.as_ref()
    }

    /// Whether everything that is wanted is here.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_awaited() && self.own.as_ref().is_none_or(|own| own.first_outside(&self.here).is_none())
    }

    /// Whether a reader lacks something that is not here.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting().next().is_some()
    }

    /// When the earliest of those who wait needs what is not here; `None` when none of them said.
    pub(super) fn needed_by(&self) -> Option<Instant> {
        self.waiting().filter_map(|reader| reader.needed_by).min()
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.readers.values().filter(|reader| reader.lacks.first_outside(&self.here).is_some())
    }

    /// Lets the fill fetch these groups although nobody waits; `None` ends that.
    pub(super) fn set_own(&mut self, groups: Option<GroupSet>) {
        self.own = groups;
    }

    /// Whether the fill goes on although nobody waits.
    pub(super) fn goes_on_alone(&self) -> bool {
        self.own.is_some() && !self.is_awaited()
    }

    pub(super) fn outlook(&self, n: u64) -> Outlook {
        match &self.failure {
            // What runs goes on: a strand that still has a source delivers its readers.
            Some(_) if !self.closed && self.strands.iter().any(|strand| strand.will_reach(n)) => {
                Outlook::Coming
            }
            Some(error) => Outlook::Failed(error.clone()),
            None if self.closed => Outlook::Closed,
            None => Outlook::Coming,
        }
    }

    /// What is to be fetched now, and by whom.
    pub(super) fn plan(&self, limits: Limits) -> Plan {
        let mut missing = GroupSet::none(self.here.segment_len());
        let wanted = self.readers.values().map(|reader| reader.lacks.as_ref()).chain(&self.own);
        let mut fronts = Vec::new();
        for wants in wanted {
            missing.union(wants);
            let front = wants.first_outside(&self.here);
            // Neighbours in a crowd wait for the same group.
            fronts.extend(front.filter(|front| fronts.last() != Some(front)));
        }
        missing.subtract(&self.here);
        let running: Vec<Run> = self.strands.iter().map(|strand| strand.run()).collect();
        if self.failure.is_some() {
            fronts.clear();
        }
        plan(&missing, &fronts, &running, limits)
    }
}

#[cfg(test)]
mod tests {
    use media::GROUP_LEN;

    use super::*;
    use crate::error::Failure;

    const LIMITS: Limits = Limits { strands: 2, near: 4 };

    fn set(groups: std::ops::Range<u64>) -> GroupSet {
        let mut set = GroupSet::none(100 * GROUP_LEN);
        set.insert_all(groups);
        set
    }

    fn starts(wants: &Wants) -> Vec<(u64, u64)> {
        wants.plan(LIMITS).starts.iter().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn a_fill_is_idle_when_everything_wanted_is_here() {
        let mut wants = Wants::new(100 * GROUP_LEN);
        assert!(wants.is_idle());
        let first = wants.join(Arc::new(set(0..2)), true, None);
        assert!(wants.is_awaited() && !wants.close_if_idle());
        assert_eq!(starts(&wants), [(0, 2)]);
        wants.arrived(0);
        assert_eq!(starts(&wants), [(1, 2)]);
        wants.set_own(Some(set(0..9)));
        assert!(!wants.goes_on_alone());
        assert!(wants.leave(first));
        assert!(wants.goes_on_alone() && !wants.is_idle());
        assert_eq!(starts(&wants), [(1, 9)]);
        wants.set_own(None);
        assert!(wants.close_if_idle());
        assert_eq!(wants.outlook(5), Outlook::Closed);
    }

    #[test]
    fn the_earliest_of_those_who_still_wait_counts() {
        let now = Instant::now();
        let by = |seconds: u64| Some(now + std::time::Duration::from_secs(seconds));
        let mut wants = Wants::new(100 * GROUP_LEN);
        assert_eq!(wants.needed_by(), None);
        let silent = wants.join(Arc::new(set(0..9)), true, None);
        assert_eq!(wants.needed_by(), None, "one who says nothing is in no known hurry");
        wants.join(Arc::new(set(0..9)), true, by(30));
        let starved = wants.join(Arc::new(set(0..9)), true, by(0));
        wants.join(Arc::new(set(0..2)), true, by(1));
        assert_eq!(wants.needed_by(), by(0));
        wants.leave(starved);
        assert_eq!(wants.needed_by(), by(1));
        (0..2).for_each(|n| wants.arrived(n));
        assert_eq!(wants.needed_by(), by(30), "one who has everything waits for nothing");
        wants.leave(silent);
        (2..9).for_each(|n| wants.arrived(n));
        assert_eq!(wants.needed_by(), None);
    }

    #[test]
    fn one_strand_that_fails_takes_only_its_own_readers_along() {
        let mut wants = Wants::new(100 * GROUP_LEN);
        wants.join(Arc::new(set(0..10)), true, None);
        wants.join(Arc::new(set(50..60)), false, None);
        wants.strands.push(Strand::new(50..60));
        let error = ServeError::new(Failure::SourcesExhausted, "in a test");
        wants.fail(error.clone());
        assert!(starts(&wants).is_empty(), "none is started");
        assert_eq!(wants.plan(LIMITS).ends, [60], "what runs goes on");
        assert_eq!(wants.outlook(5), Outlook::Failed(error.clone()));
        assert_eq!(wants.outlook(55), Outlook::Coming);
        wants.close(Some(ServeError::new(Failure::Deadline, "later")));
        assert_eq!(wants.outlook(55), Outlook::Failed(error), "the first word counts");
    }
}
