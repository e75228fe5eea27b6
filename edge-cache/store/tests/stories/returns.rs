//! Disks that fail, are given away and come back, with something else happening at the same moment.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use store::{Device, DiskConfig, FileName, MemoryDevice, PurgeKind, Scope, StoreConfig};

use crate::between::{Between, Fate, Op};
use crate::support::{Node, Sample, disk_only, with_disk};

const SLAB: FileName = FileName::Slab(0);
const LATER: Duration = Duration::from_secs(11);

fn film() -> Scope {
    Scope::Title("film".parse().expect("a title"))
}

fn two_disks() -> StoreConfig {
    let mut config = disk_only(1 << 20);
    config.disk.push(DiskConfig { path: "other".into(), ..config.disk[0].clone() });
    config
}

/// A node over one disk with some samples stored.
async fn stored(device: &MemoryDevice, samples: &[Sample]) -> (Arc<Between>, Node) {
    let between = Between::over(device);
    let node = Node::start(&disk_only(1 << 20), vec![between.clone()]).await;
    for sample in samples {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    (between, node)
}

fn samples<const N: usize>() -> [Sample; N] {
    std::array::from_fn(|number| Sample::new(number as u32, 0, 40_000))
}

/// The disk reads its log while the purge comes.
#[tokio::test(start_paused = true)]
async fn a_purge_meets_the_return_of_a_disk() {
    for kind in [PurgeKind::Hard, PurgeKind::Soft] {
        let (device, [sample]) = (MemoryDevice::new(), samples());
        let (between, node) = stored(&device, std::slice::from_ref(&sample)).await;
        device.fail_reads(Some(ErrorKind::Other));
        assert!(!sample.hit(&node.store).await && node.is("offline"));
        device.fail_reads(None);
        between.rule(|op| if matches!(op, Op::Read(FileName::Log(_), _)) { Fate::Hold } else { Fate::Pass });
        tokio::time::sleep(LATER - Duration::from_millis(500)).await;
        let purged = node.store.purge(&film(), kind).await;
        assert_eq!(purged.disks_behind, 1, "it is on its way back");
        between.let_go();
        node.until("its return", |node| node.is("online")).await;
        assert!(sample.find(&node.store).is_empty(), "swept when it returns");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        assert!(sample.find(&node.store).is_empty(), "and for ever");
    }
}

/// What only the returning disk remembers counts for all that was served meanwhile.
#[tokio::test(start_paused = true)]
async fn a_purge_that_only_the_returning_disk_remembers_is_learned_by_all() {
    let devices = [MemoryDevice::new(), MemoryDevice::new()];
    let both =
        || devices.iter().map(|device| Arc::new(device.after_kill()) as Arc<dyn Device>).collect::<Vec<_>>();
    let samples: [Sample; 20] = samples();
    let node = Node::start(&two_disks(), both()).await;
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    drop(node);
    devices[0].fail_opens(Some(ErrorKind::Other));
    let node = Node::start(&two_disks(), both()).await;
    assert_eq!(node.store.purge(&film(), PurgeKind::Hard).await.disks_behind, 1);

    drop(node);
    devices[0].fail_opens(None);
    devices[1].fail_opens(Some(ErrorKind::Other));
    let with_memory = StoreConfig { memory_bytes: with_disk(1).memory_bytes, ..two_disks() };
    let node = Node::start(&with_memory, both()).await;
    let mut before = 0;
    for sample in &samples {
        before += usize::from(sample.hit(&node.store).await);
    }
    assert!(before > 0, "nobody here can know");
    devices[1].fail_opens(None);
    tokio::time::sleep(LATER).await;
    let left = samples.iter().filter(|sample| !sample.find(&node.store).is_empty()).count();
    assert_eq!(left, 0, "neither in memory nor on the other disk");
}

/// The one who tries to get a full disk back is in the middle of it when the disk is given away.
#[tokio::test(start_paused = true)]
async fn a_disk_that_is_given_away_is_not_taken_back_by_whoever_tries_to_mend_it() {
    let (device, [first, second]) = (MemoryDevice::new(), samples());
    let (between, node) = stored(&device, &[first]).await;
    device.fail_writes(Some(ErrorKind::ReadOnlyFilesystem));
    second.insert_into(&node.store);
    node.store.flush().await;
    assert!(node.is("read-only"));
    device.fail_writes(None);
    between.rule(|op| if op == Op::Sync(FileName::Superblock) { Fate::Hold } else { Fate::Pass });
    tokio::time::sleep(LATER).await;
    let store = node.store.clone();
    let detached = tokio::spawn(async move { store.detach().await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    between.let_go();
    detached.await.expect("no panic");
    tokio::time::sleep(LATER).await;
    assert!(node.is("detached"));
    device.another_process().open().await.expect("it was let go of");
}

/// Whoever asked for a purge walks away while its record is being written.
#[tokio::test(start_paused = true)]
async fn a_purge_whose_caller_walks_away_takes_no_record_with_it() {
    let (device, [first, second]) = (MemoryDevice::new(), samples());
    let (between, node) = stored(&device, &[first.clone(), second.clone()]).await;
    let one = |sample: &Sample| Scope::Segment(sample.key.clone());
    device.set_delay(Duration::from_millis(100));
    let scope = one(&first);
    let walked_away =
        tokio::time::timeout(Duration::from_millis(50), node.store.purge(&scope, PurgeKind::Hard));
    assert!(walked_away.await.is_err());
    let answered = node.store.purge(&one(&second), PurgeKind::Hard).await;
    assert_eq!(answered.disks_behind, 0);
    device.set_delay(Duration::ZERO);
    assert!(node.is("online"));
    drop(between);
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    for sample in [&first, &second] {
        assert!(sample.find(&node.store).is_empty(), "both are on record");
    }
}

/// A purge is on record on every disk as soon as that disk can: a hanging one holds up no other.
#[tokio::test(start_paused = true)]
async fn a_hanging_disk_holds_up_no_purge_on_another() {
    let devices = [MemoryDevice::new(), MemoryDevice::new()];
    let both =
        devices.iter().map(|device| Arc::new(device.after_kill()) as Arc<dyn Device>).collect::<Vec<_>>();
    let samples: [Sample; 20] = samples();
    let node = Node::start(&two_disks(), both).await;
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.flush().await;
    devices[0].hang(true);
    let store = node.store.clone();
    let purging = tokio::spawn(async move { store.purge(&film(), PurgeKind::Hard).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let alone = disk_only(1 << 20);
    let second = Node::start(&alone, vec![Arc::new(devices[1].after_kill())]).await;
    assert!(samples.iter().all(|sample| sample.find(&second.store).is_empty()), "on record there");
    devices[0].hang(false);
    purging.await.expect("no panic");
}

/// The kernel forgets what a failed sync did not write, and shows it all the same until the power fails.
#[tokio::test(start_paused = true)]
async fn a_log_whose_sync_failed_is_not_built_upon() {
    for seed in 0..20 {
        let (device, [sample]) = (MemoryDevice::new(), samples());
        let (_between, node) = stored(&device, std::slice::from_ref(&sample)).await;
        let before = Scope::Title("another".parse().expect("a title"));
        assert_eq!(node.store.purge(&before, PurgeKind::Hard).await.disks_behind, 0, "all is safe so far");
        device.fail_syncs(Some(ErrorKind::Other));
        // Some pages that the kernel forgets, and nobody writes again.
        let long = Scope::Prefix("x".repeat(20_000));
        assert_eq!(node.store.purge(&long, PurgeKind::Hard).await.disks_behind, 1);
        device.fail_syncs(None);
        node.until("its return", |node| node.is("online")).await;
        assert!(sample.hit(&node.store).await, "nothing was lost");
        assert_eq!(node.store.purge(&film(), PurgeKind::Hard).await.disks_behind, 0);
        device.lose_power(seed);
        drop(node);
        let node = Node::over(&device, &disk_only(1 << 20)).await;
        assert!(sample.find(&node.store).is_empty(), "a purge that was answered stands, seed {seed}");
    }
}

/// A sector of one object cannot be read any more. The disk is not taken away for each request of it.
#[tokio::test(start_paused = true)]
async fn a_bad_sector_costs_one_object() {
    let (device, samples) = (MemoryDevice::new(), samples::<3>());
    let (between, node) = stored(&device, &samples).await;
    // The second of three objects of eleven pages.
    let bad = 11 * 4096..22 * 4096;
    between.rule(move |op| match op {
        Op::Read(SLAB, at) if bad.contains(&at) => Fate::Fail(ErrorKind::Other),
        _ => Fate::Pass,
    });
    assert!(!samples[1].hit(&node.store).await && node.is("offline"), "who knows what it means");
    tokio::time::sleep(LATER).await;
    assert!(!samples[1].hit(&node.store).await && node.is("online"), "it is this one again");
    assert!(samples[1].find(&node.store).is_empty(), "which is bought anew");
    assert!(samples[0].hit(&node.store).await && samples[2].hit(&node.store).await);
    node.store.flush().await;
    let node = Node::over(&device, &disk_only(1 << 20)).await;
    assert_eq!(node.recovered("kept"), 2, "for ever");
}

/// The first copy cannot be read, and not be written either.
#[tokio::test(start_paused = true)]
async fn a_superblock_is_read_from_its_second_page_when_the_first_cannot_be() {
    let (device, [sample]) = (MemoryDevice::new(), samples());
    drop(stored(&device, std::slice::from_ref(&sample)).await);
    let between = Between::over(&device);
    between.rule(|op| match op {
        Op::Read(FileName::Superblock, 0) | Op::Write(FileName::Superblock, _) => {
            Fate::Fail(ErrorKind::Other)
        }
        _ => Fate::Pass,
    });
    let node = Node::start(&disk_only(1 << 20), vec![between]).await;
    assert!(node.is("online") && sample.hit(&node.store).await);
}

/// Nothing is emptied because something could not be read for a while.
#[tokio::test(start_paused = true)]
async fn a_superblock_that_cannot_be_read_empties_no_disk() {
    let (device, [sample]) = (MemoryDevice::new(), samples());
    drop(stored(&device, std::slice::from_ref(&sample)).await);
    device.zero(FileName::Superblock, 4096..8192);
    let between = Between::over(&device);
    between.rule(|op| match op {
        Op::Read(FileName::Superblock, 0) => Fate::Fail(ErrorKind::Other),
        _ => Fate::Pass,
    });
    let node = Node::start(&disk_only(1 << 20), vec![between.clone()]).await;
    assert!(node.is("offline"));
    between.rule(|_| Fate::Pass);
    tokio::time::sleep(LATER).await;
    assert!(node.is("online") && sample.hit(&node.store).await);
}

/// Disks that hang at the start hold the node up as long as one, not as long as all of them one by one.
#[tokio::test(start_paused = true)]
async fn disks_are_opened_side_by_side() {
    let devices = [MemoryDevice::new(), MemoryDevice::new()];
    devices.iter().for_each(|device| device.hang(true));
    let both =
        devices.iter().map(|device| Arc::new(device.after_kill()) as Arc<dyn Device>).collect::<Vec<_>>();
    let begun = tokio::time::Instant::now();
    let node = Node::start(&two_disks(), both).await;
    assert!(begun.elapsed() <= two_disks().disk[0].write_timeout, "{:?}", begun.elapsed());
    devices.iter().for_each(|device| device.hang(false));
    node.until("their return", |node| node.is("online")).await;
}

/// The file system stays full for long: the disk serves, and is not opened anew for nothing.
#[tokio::test(start_paused = true)]
async fn a_disk_whose_log_has_no_room_waits_for_some() {
    let (device, [first, second]) = (MemoryDevice::new(), samples());
    let (_between, node) = stored(&device, std::slice::from_ref(&first)).await;
    let taken: u64 = device.files().iter().map(|(_, len)| len.next_multiple_of(4096)).sum();
    device.set_capacity(Some(taken));
    // Fills the last page of the log.
    for number in 0..200 {
        node.store.purge(&Scope::Prefix(format!("nobody{number}/")), PurgeKind::Hard).await;
    }
    assert!(node.is("read-only"));
    let opened = node.recovered("kept");
    tokio::time::sleep(LATER * 10).await;
    assert!(node.is("read-only") && first.hit(&node.store).await);
    assert_eq!(node.recovered("kept"), opened, "not read again and again");
    device.set_capacity(None);
    tokio::time::sleep(LATER).await;
    second.insert_into(&node.store);
    node.store.flush().await;
    assert!(node.is("online") && first.hit(&node.store).await && second.hit(&node.store).await);
}

/// One of two disks cannot be taken back: the other is, and the first when it can.
#[tokio::test(start_paused = true)]
async fn each_disk_is_taken_back_by_itself() {
    let devices = [MemoryDevice::new(), MemoryDevice::new()];
    let both =
        devices.iter().map(|device| Arc::new(device.after_kill()) as Arc<dyn Device>).collect::<Vec<_>>();
    let node = Node::start(&two_disks(), both).await;
    let samples: [Sample; 20] = samples();
    samples.iter().for_each(|sample| sample.insert_into(&node.store));
    node.store.detach().await;
    devices[0].fail_opens(Some(ErrorKind::Other));
    node.store.attach().await.expect("a broken disk is offline, and no reason to wait");
    let found = || samples.iter().filter(|sample| !sample.find(&node.store).is_empty()).count();
    assert!((1..20).contains(&found()), "the second disk is back");
    let late = Sample::new(30, 0, 40_000);
    late.insert_into(&node.store);
    node.store.flush().await;
    assert!(late.hit(&node.store).await, "and is written");
    devices[0].fail_opens(None);
    tokio::time::sleep(LATER).await;
    assert_eq!(found(), 20);
}

/// A purge that the other process answered counts for what this one has in memory.
#[tokio::test(start_paused = true)]
async fn what_was_purged_while_the_disk_was_away_is_swept_from_memory() {
    let (device, [sample]) = (MemoryDevice::new(), samples());
    let old = Node::over(&device, &with_disk(1 << 20)).await;
    sample.insert_into(&old.store);
    old.store.detach().await;
    let new = Node::start(&with_disk(1 << 20), vec![Arc::new(device.another_process())]).await;
    new.store.purge(&film(), PurgeKind::Hard).await;
    new.store.detach().await;
    old.store.attach().await.expect("it is free again");
    assert!(sample.find(&old.store).is_empty());
}

/// What the new owner wrote over is no rot.
#[tokio::test(start_paused = true)]
async fn what_the_next_owner_overwrites_is_gone_and_not_corrupt() {
    let (device, [first, second]) = (MemoryDevice::new(), samples());
    let small = disk_only(12 * 4096);
    let old = Node::over(&device, &small).await;
    first.insert_into(&old.store);
    old.store.detach().await;
    let new = Node::start(&small, vec![Arc::new(device.another_process())]).await;
    second.insert_into(&new.store);
    new.store.flush().await;
    assert!(!first.hit(&old.store).await);
    assert_eq!((old.faults("gone"), old.faults("corrupt")), (1, 0));
}

/// A disk that shrank and grew again: what was cut off stays away, and what is in its place is found.
#[tokio::test(start_paused = true)]
async fn what_was_cut_off_does_not_come_back_in_the_place_of_others() {
    let object = 11 * 4096;
    let (device, samples) = (MemoryDevice::new(), samples::<12>());
    let node = Node::over(&device, &disk_only(6 * object)).await;
    for sample in &samples[..6] {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    let node = Node::over(&device, &disk_only(2 * object)).await;
    assert_eq!((node.recovered("kept"), node.recovered("rejected")), (2, 4));
    let node = Node::over(&device, &disk_only(6 * object)).await;
    for sample in &samples[6..10] {
        sample.insert_into(&node.store);
        node.store.flush().await;
    }
    assert_eq!(node.store.usage().disk.objects, 6);
    let node = Node::over(&device, &disk_only(6 * object)).await;
    assert_eq!((node.recovered("kept"), node.recovered("rejected")), (6, 0));
    for (number, sample) in samples.iter().enumerate() {
        assert_eq!(sample.hit(&node.store).await, number < 2 || (6..10).contains(&number), "{number}");
    }
    assert_eq!(node.faults("corrupt"), 0);
}

/// A scrub leaves alone what another process may be writing, and counts passes only of what it saw.
#[tokio::test(start_paused = true)]
async fn a_scrub_counts_whole_passes_of_its_own_disk() {
    let (device, [sample]) = (MemoryDevice::new(), samples());
    let mut config = disk_only(1 << 20);
    config.disk[0].scrub_bytes_per_second = store::ByteSize::mib(1);
    let between = Between::over(&device);
    let node = Node::start(&config, vec![between.clone()]).await;
    sample.insert_into(&node.store);
    node.store.flush().await;
    node.store.detach().await;
    let read = Arc::new(AtomicBool::new(false));
    let seen = read.clone();
    between.rule(move |op| {
        seen.fetch_or(matches!(op, Op::Read(SLAB, _)), Ordering::Relaxed);
        Fate::Pass
    });
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!read.load(Ordering::Relaxed), "it is not ours");
    assert_eq!(node.metric("weir_store_scrub_passes_total", ""), 0);
}
