//! Which missing groups are fetched by whom: the decision, and nothing else.
//!
//! A strand is one fetch of a run of groups, in order. Viewers wait at fronts. A front that a strand reaches
//! soon waits for it; one that no strand reaches soon gets a strand of its own, as long as there may be one
//! more. No group is ever claimed by two strands: a strand that would run into another one's groups, into
//! groups that are here, or into groups that nobody wants ends before them.

use std::ops::Range;

use media::GroupSet;

/// A strand that runs: it delivers group `next` next, and ends before group `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) next: u64,
    pub(crate) end: u64,
}

impl Run {
    /// It has delivered everything it was to.
    pub(crate) fn is_over(self) -> bool {
        self.next >= self.end
    }

    fn holds(self, group: u64) -> bool {
        (self.next..self.end).contains(&group)
    }
}

/// What the planner may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Most strands of one fill.
    pub(crate) strands: usize,
    /// A front so many groups ahead of a strand waits for it.
    pub(crate) near: u64,
}

/// What is to change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Where each running strand ends now, in the order they were given. One that ends at or before its next
    /// group stops at once.
    pub(crate) ends: Vec<u64>,
    /// Runs that get a strand.
    pub(crate) starts: Vec<Range<u64>>,
}

/// Plans anew. `missing` is wanted by somebody and not here; `fronts` are the groups that viewers wait for,
/// those of the viewers who came first first.
pub(crate) fn plan(missing: &GroupSet, fronts: &[u64], running: &[Run], limits: Limits) -> Plan {
    let mut runs = trimmed(missing, running);
    for &front in fronts.iter().filter(|front| missing.has(**front)) {
        let active = runs.iter().filter(|run| !run.is_over()).count();
        let claims = runs.iter().position(|run| run.holds(front));
        let waits = claims.is_some_and(|at| front - runs[at].next <= limits.near);
        if waits || active >= limits.strands {
            continue;
        }
        let end = match claims {
            Some(at) => std::mem::replace(&mut runs[at].end, front),
            None => reach(missing, front, &runs),
        };
        runs.push(Run { next: front, end });
    }
    let starts = runs.split_off(running.len());
    Plan {
        ends: runs.iter().map(|run| run.end).collect(),
        starts: starts.into_iter().map(|run| run.next..run.end).collect(),
    }
}

/// The running strands, each as far as its groups are still missing and no strand ahead claims them.
fn trimmed(missing: &GroupSet, running: &[Run]) -> Vec<Run> {
    let others = |at: usize| running.iter().enumerate().filter(move |(other, _)| *other != at);
    let ahead = |at: usize, run: &Run| {
        let ahead =
            others(at).map(|(_, other)| other).filter(|other| !other.is_over() && other.next > run.next);
        ahead.map(|other| other.next).min().unwrap_or(u64::MAX)
    };
    let trim = |(at, run): (usize, &Run)| {
        let wanted = missing_until(missing, run.next);
        Run { next: run.next, end: run.end.min(wanted).min(ahead(at, run)) }
    };
    running.iter().enumerate().map(trim).collect()
}

/// Where a strand that begins at `front` ends: before the next group that is not missing or claimed.
fn reach(missing: &GroupSet, front: u64, runs: &[Run]) -> u64 {
    let claimed = runs.iter().filter(|run| !run.is_over() && run.next > front).map(|run| run.next).min();
    missing_until(missing, front).min(claimed.unwrap_or(u64::MAX))
}

/// The end of the run of missing groups that begins at `from`; `from` itself when it is not missing.
fn missing_until(missing: &GroupSet, from: u64) -> u64 {
    if !missing.has(from) {
        return from;
    }
    let mut end = from + 1;
    while missing.has(end) {
        end += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use media::GROUP_LEN;
    use proptest::prelude::*;

    use super::*;

    const GROUPS: u64 = 200;
    const LIMITS: Limits = Limits { strands: 2, near: 10 };

    fn set(ranges: &[(u64, u64)]) -> GroupSet {
        let mut set = GroupSet::none(GROUPS * GROUP_LEN);
        ranges.iter().for_each(|(start, end)| set.insert_all(*start..*end));
        set
    }

    fn starts(plan: &Plan) -> Vec<(u64, u64)> {
        plan.starts.iter().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn fronts_wait_join_split_and_start() {
        let run = |next, end| Run { next, end };
        for (what, missing, fronts, running, ends, expected) in [
            ("nothing is wanted", vec![], vec![], vec![], vec![], vec![]),
            ("the first viewer", vec![(0, 200)], vec![0], vec![], vec![], vec![(0, 200)]),
            ("a range", vec![(50, 60)], vec![50], vec![], vec![], vec![(50, 60)]),
            ("it follows", vec![(5, 200)], vec![5, 15], vec![run(5, 200)], vec![200], vec![]),
            ("it is far ahead", vec![(5, 200)], vec![5, 16], vec![run(5, 200)], vec![16], vec![(16, 200)]),
            (
                "it lies behind",
                vec![(0, 5), (50, 200)],
                vec![50, 0],
                vec![run(50, 200)],
                vec![200],
                vec![(0, 5)],
            ),
            (
                "no third strand",
                vec![(5, 200)],
                vec![5, 100, 180],
                vec![run(5, 100), run(100, 200)],
                vec![100, 200],
                vec![],
            ),
            ("two gaps", vec![(10, 20), (30, 40)], vec![10, 30], vec![], vec![], vec![(10, 20), (30, 40)]),
            ("here already", vec![(10, 20), (30, 40)], vec![10], vec![run(10, 40)], vec![20], vec![]),
            ("behind another", vec![(10, 100)], vec![10], vec![run(50, 100)], vec![100], vec![(10, 50)]),
            ("nobody is left", vec![], vec![], vec![run(5, 200)], vec![5], vec![]),
            ("the tail is not wanted", vec![(5, 50)], vec![5], vec![run(5, 200)], vec![50], vec![]),
            (
                "one that is over is no strand",
                vec![(20, 30)],
                vec![20],
                vec![run(9, 9)],
                vec![9],
                vec![(20, 30)],
            ),
        ] {
            let plan = plan(&set(&missing), &fronts, &running, LIMITS);
            assert_eq!((&plan.ends, starts(&plan)), (&ends, expected), "{what}");
        }
    }

    #[test]
    fn the_first_who_came_is_served_first() {
        let limits = Limits { strands: 1, near: 10 };
        let plan = plan(&set(&[(0, GROUPS)]), &[150, 0], &[], limits);
        assert_eq!(starts(&plan), [(150, 200)]);
    }

    #[derive(Debug, Clone)]
    enum Event {
        /// A viewer of these groups comes.
        Come(u64, u64),
        /// One of the viewers leaves.
        Leave(usize),
        /// A strand delivers its next group.
        Deliver(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            1 => (0..GROUPS, 1..GROUPS).prop_map(|(from, len)| Event::Come(from, (from + len).min(GROUPS))),
            1 => any::<usize>().prop_map(Event::Leave),
            20 => any::<usize>().prop_map(Event::Deliver),
        ]
    }

    /// The task of a fill, without its sources: it replans after every event.
    #[derive(Default)]
    struct Model {
        viewers: Vec<GroupSet>,
        running: Vec<Run>,
        fetched: BTreeMap<u64, u32>,
    }

    impl Model {
        fn step(&mut self, event: &Event) -> Result<(), TestCaseError> {
            match event {
                Event::Come(from, end) => self.viewers.push(set(&[(*from, *end)])),
                Event::Leave(which) if !self.viewers.is_empty() => {
                    self.viewers.remove(which % self.viewers.len());
                }
                Event::Deliver(which) if !self.running.is_empty() => {
                    let at = which % self.running.len();
                    *self.fetched.entry(self.running[at].next).or_default() += 1;
                    self.running[at].next += 1;
                }
                Event::Leave(_) | Event::Deliver(_) => {}
            }
            self.replan()
        }

        fn replan(&mut self) -> Result<(), TestCaseError> {
            let (mut here, mut missing) = (set(&[]), set(&[]));
            self.fetched.keys().for_each(|group| here.insert(*group));
            self.viewers.iter().for_each(|wants| missing.union(wants));
            missing.subtract(&here);
            let fronts: Vec<u64> =
                self.viewers.iter().filter_map(|wants| wants.first_outside(&here)).collect();
            let plan = plan(&missing, &fronts, &self.running, LIMITS);
            self.running.iter_mut().zip(&plan.ends).for_each(|(run, end)| run.end = *end);
            self.running.extend(plan.starts.iter().map(|run| Run { next: run.start, end: run.end }));
            self.running.retain(|run| !run.is_over());
            prop_assert!(self.running.len() <= LIMITS.strands);
            prop_assert!(fronts.is_empty() || !self.running.is_empty(), "somebody waits and nothing runs");
            let mut claims = set(&[]);
            for run in &self.running {
                prop_assert!((run.next..run.end).all(|group| missing.has(group) && !claims.has(group)));
                claims.insert_all(run.next..run.end);
            }
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn every_wanted_group_is_fetched_exactly_once(events in proptest::collection::vec(event(), 1..300)) {
            let mut model = Model::default();
            for event in &events {
                model.step(event)?;
            }
            let mut turn = 0;
            while !model.running.is_empty() {
                turn += 1;
                model.step(&Event::Deliver(turn))?;
            }
            prop_assert!(model.fetched.values().all(|times| *times == 1), "{:?}", model.fetched);
            let wanted = model.viewers.iter().all(|wants| wants.runs().flatten().all(|group| model.fetched.contains_key(&group)));
            prop_assert!(wanted);
        }
    }
}
