//! Many viewers of one segment, and viewers who leave.

use std::time::Duration;

use engine::Outcome;
use futures_util::future::{join, join_all};
use media::{ByteRange, SegmentKey};
use testkit::{Behaviour, End, Node, Played, Script, Transfer, TransferEnd, Viewing, World, seeds, story};

const VIEWERS: u64 = 1_000;
/// The first segment takes half a second.
const PACE: Behaviour = Behaviour { latency: Duration::from_millis(40), rate: 2_000_000, fault: None };
const FILL: Duration = Duration::from_millis(500);
const REGRESSIONS: &[u64] = &[];

struct Scene {
    world: World,
    node: Node,
    key: SegmentKey,
}

impl Scene {
    async fn new(seed: u64) -> Self {
        let world = World::new(seed).source("origin", Script::media(PACE));
        let (node, key) = (world.node().await, world.package.media("v720", 0));
        Self { world, node, key }
    }

    fn viewing(&self) -> Viewing {
        Viewing::whole(&self.key, &self.world.package)
    }

    /// What was asked of the origin for the segment.
    fn upstream(&self) -> Vec<Transfer> {
        let (object, range) = self.world.package.location(&self.key);
        self.world.sources[0].transfers_of(&object, range)
    }
}

#[test]
fn a_thundering_herd_costs_one_open_and_nobody_waits_for_the_end() {
    story("thundering herd", seeds(4, REGRESSIONS), |seed| async move {
        let scene = Scene::new(seed).await;
        let draws = scene.world.chance.for_("arrival");
        let viewers = (0..VIEWERS).map(|n| {
            let late = draws.nth(n).below(FILL.as_millis() as u64 * 9 / 10);
            let arrives = Duration::from_millis(if n == 0 { 0 } else { late });
            let (node, viewing) = (&scene.node, Viewing { arrives, ..scene.viewing() });
            async move { node.play(&format!("viewer-{n}"), &viewing).await }
        });
        let viewers = join_all(viewers).await;
        assert!(viewers.iter().all(Played::is_whole));
        let count = |outcome| viewers.iter().filter(|viewer| viewer.outcome == Some(outcome)).count() as u64;
        assert_eq!((count(Outcome::Filled), count(Outcome::Joined)), (1, VIEWERS - 1));

        let upstream = scene.upstream();
        let [transfer] = &upstream[..] else { panic!("{} opens", upstream.len()) };
        assert_eq!(transfer.question.range, scene.world.package.location(&scene.key).1);
        assert_eq!(scene.world.media_bytes(), transfer.question.range.len(), "each byte was bought once");

        let first_byte = |viewer: &Played| viewer.first_byte.expect("everybody saw one");
        let leader = viewers.iter().map(first_byte).min().expect("viewers");
        for viewer in &viewers {
            let due = viewer.arrived.max(leader) + Duration::from_millis(50);
            assert!(first_byte(viewer) <= due, "{viewer:?} was due at {due:?}");
        }
        let filled = transfer.end.expect("the fill has ended").1;
        let last = viewers.iter().map(first_byte).max().expect("viewers");
        assert!(last < filled, "the last first byte came at {last:?}, the fill ended at {filled:?}");
    });
}

#[test]
fn the_first_asker_leaves_and_nobody_else_notices() {
    story("the first asker leaves", seeds(20, REGRESSIONS), |seed| async move {
        let scene = Scene::new(seed).await;
        let draws = scene.world.chance.for_("arrival");
        let leaves_after = Some(scene.world.chance.for_("leaves").below(900_000));
        let leaver = Viewing { leaves_after, ..scene.viewing() };
        let others = (0..10).map(|n| {
            // They join before the first one has seen a byte, so that the fill is never without readers.
            let arrives = Duration::from_millis(draws.nth(n).between(1, 40));
            let (node, viewing) = (&scene.node, Viewing { arrives, ..scene.viewing() });
            async move { node.play(&format!("viewer-{n}"), &viewing).await }
        });
        let (leaver, others) = join(scene.node.play("leaver", &leaver), join_all(others)).await;
        assert_eq!((leaver.end, leaver.wrong, leaver.outcome), (End::Left, None, Some(Outcome::Filled)));
        assert!(others.iter().all(Played::is_whole));
        assert_eq!(scene.upstream().len(), 1);
    });
}

#[test]
fn the_last_viewer_who_leaves_early_ends_the_purchase() {
    story("the last viewer leaves early", seeds(20, REGRESSIONS), |seed| async move {
        let scene = Scene::new(seed).await;
        let last = scene.world.chance.for_("leaves").below(400_000);
        let leaving = |leaves_after| Viewing { leaves_after: Some(leaves_after), ..scene.viewing() };
        let (one, other) = (leaving(last / 2), leaving(last));
        let (one, other) = join(scene.node.play("one", &one), scene.node.play("other", &other)).await;
        assert_eq!((one.end, one.wrong, other.end, other.wrong), (End::Left, None, End::Left, None));
        scene.node.until_no_fill_runs().await;
        let [transfer] = &scene.upstream()[..] else { panic!("one open") };
        let (end, at) = transfer.end.expect("it has ended");
        assert_eq!(end, TransferEnd::Cancelled);
        assert!(at <= other.ended.max(one.ended) + Duration::from_millis(10), "cancelled at {at:?}, late");
        assert!(transfer.sent < last + 50_000, "{} bytes bought, {last} read", transfer.sent);
        assert_eq!(scene.node.metric("weir_engine_buffered_bytes"), 0);
        let next = scene.node.play("next", &scene.viewing()).await;
        assert!(next.is_whole());
        let (len, bought) = (ByteRange::len(scene.viewing().range), scene.world.media_bytes());
        assert!(bought <= len + 50_000, "what had come was kept: {bought} bytes bought for {len}");
    });
}

#[test]
fn the_last_viewer_who_leaves_late_leaves_a_whole_segment_behind() {
    story("the last viewer leaves late", seeds(20, REGRESSIONS), |seed| async move {
        let scene = Scene::new(seed).await;
        let leaves_after = Some(scene.world.chance.for_("leaves").between(520_000, 980_000));
        let left = scene.node.play("leaver", &Viewing { leaves_after, ..scene.viewing() }).await;
        assert_eq!((left.end, left.wrong), (End::Left, None));
        scene.node.until_no_fill_runs().await;
        let [transfer] = &scene.upstream()[..] else { panic!("one open") };
        assert_eq!(transfer.end.map(|(end, _)| end), Some(TransferEnd::Whole));
        let next = scene.node.play("next", &scene.viewing()).await;
        assert!(next.is_whole());
        assert_eq!((next.outcome, next.ttfb()), (Some(Outcome::Memory), Some(Duration::ZERO)));
        assert_eq!(scene.world.media_bytes(), ByteRange::len(scene.viewing().range));
    });
}
