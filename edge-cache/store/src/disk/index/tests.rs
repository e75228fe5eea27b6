use media::{Part, SegmentKey};

use super::*;
use crate::purge::{PurgeKind, Scope};

const GEOMETRY: Geometry = Geometry { unit: 4096, slab_units: 32 };

fn offer(number: u32) -> Offer {
    let key = SegmentKey::parse("film/00000000000000ff/v720/0.m4s").expect("a key").0;
    let key = SegmentKey { part: Part::Media(number), ..key };
    let (len, born, tags) = (40_000, Epoch(0), Arc::default());
    Offer { key, len, root: Digest([7; 32]), groups: GroupSet::all(len), born, tags }
}

/// Room for two objects of eleven units.
fn index() -> Index {
    let mut index = Index::new(GEOMETRY, 22, 0);
    index.grown_to(22);
    index.replayed();
    index
}

fn claimed(index: &mut Index, offer: &Offer) -> Claim {
    match index.claim(offer, false) {
        Step::Write(claim) => claim,
        other => panic!("there is room: {other:?}"),
    }
}

/// All records are in the log.
fn recorded(index: &mut Index) {
    let (_, limbo) = index.take_pending();
    index.release(limbo);
}

#[test]
fn units_of_a_write_that_may_still_land_are_nobody_elses() {
    let mut index = index();
    let late = claimed(&mut index, &offer(0));
    index.withhold(&offer(0).key);
    recorded(&mut index);
    let other = claimed(&mut index, &offer(1));
    let taken = |claim: &Claim| claim.extents.iter().flat_map(|e| e.start..e.end()).collect::<Vec<_>>();
    assert!(taken(&other).iter().all(|unit| !taken(&late).contains(unit)));
    assert!(
        matches!(index.claim(&offer(2), false), Step::Refuse(WriteOutcome::NoRoom)),
        "the rest is withheld"
    );
}

#[test]
fn groups_that_may_still_land_keep_their_object_where_it_is() {
    let mut index = index();
    let mut first = offer(0);
    first.groups.remove(2);
    let claim = claimed(&mut index, &first);
    assert!(index.commit(&first, &claim));
    let _late = claimed(&mut index, &offer(0));
    index.withhold(&offer(0).key);
    recorded(&mut index);
    assert!(matches!(index.claim(&offer(0), false), Step::Refuse(WriteOutcome::Failed)));
    for number in 1..10 {
        let offer = offer(number);
        let claim = loop {
            match index.claim(&offer, false) {
                Step::Write(claim) => break claim,
                Step::Record => recorded(&mut index),
                other => panic!("the others make room: {other:?}"),
            }
        };
        assert!(index.commit(&offer, &claim));
        assert!(index.find(&first.key, first.len, first.root, false).is_some(), "it is not evicted");
    }
    let scope = Scope::Segment(first.key.clone());
    assert_eq!(index.purge(&scope, Epoch(1), PurgeKind::Hard), 1);
    recorded(&mut index);
    assert_eq!(index.room.free(), 0, "and its units are not given away");
}

#[test]
fn what_never_fits_drives_nobody_out() {
    let mut index = Index::new(GEOMETRY, 100, 0);
    index.grown_to(22);
    index.replayed();
    let claim = claimed(&mut index, &offer(0));
    assert!(index.commit(&offer(0), &claim));
    let (len, large) = (90_000, offer(1));
    let large = Offer { len, groups: GroupSet::all(len), ..large };
    assert!(matches!(index.claim(&large, false), Step::Refuse(WriteOutcome::NoRoom)));
    assert_eq!(index.usage().objects, 1);
}
