//! What the index of a disk costs in memory, and how long a start takes, at many objects.
//!
//! The log is made by hand, from the format's description, over sparse slabs in a real directory; the store that
//! opens it is the real one. `cargo test --release -p store --test index_size -- --ignored --nocapture` measures
//! one and ten million objects.

mod counting;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use media::{Digest, PackageId, Part, SegmentKey};
use prometheus::Registry;
use store::{ByteSize, DiskConfig, SegmentStore, StoreConfig};

use crate::counting::HELD;

const UNIT: u64 = 64 * 1024;
const SLAB_UNITS: u32 = 16_384;
/// Units of an object: 3 MB, as an average segment has.
const UNITS: u32 = 46;
const LEN: u32 = 46 * 65_536 - 8192;
/// Length of a frame when a log is told again.
const TOLD: usize = 100_000;
/// Segments of a rendition: two hours.
const SEGMENTS: u32 = 1200;

fn first_eight(bytes: &[u8]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
    first
}

fn superblock() -> Vec<u8> {
    let mut page = b"WEIRDISK\x01\0\0\0".to_vec();
    page.extend_from_slice(&(UNIT as u32).to_le_bytes());
    page.extend_from_slice(&SLAB_UNITS.to_le_bytes());
    let sum = first_eight(&page);
    page.extend_from_slice(&sum);
    page.resize(4096, 0);
    page
}

fn title(name: u32) -> String {
    format!("film-number-{name}")
}

fn key(number: u32) -> SegmentKey {
    SegmentKey {
        title: title(number / SEGMENTS).parse().expect("a title"),
        package: PackageId(u64::from(number / SEGMENTS)),
        rendition: "v720".parse().expect("a rendition"),
        part: Part::Media(number % SEGMENTS),
    }
}

/// The records of one object, and of its name before the first of a rendition.
fn records(number: u32, out: &mut Vec<u8>) {
    let (name, part) = (number / SEGMENTS, number % SEGMENTS);
    if part == 0 {
        out.push(1);
        out.extend_from_slice(&name.to_le_bytes());
        out.extend_from_slice(&u64::from(name).to_le_bytes());
        for text in [title(name).as_str(), "v720"] {
            out.push(text.len() as u8);
            out.extend_from_slice(text.as_bytes());
        }
        out.push(0);
    }
    out.push(2);
    for field in [name, part + 3] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&root(number).0[..8]);
    for field in [LEN, 0] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.push(0);
    out.extend_from_slice(&1u16.to_le_bytes());
    for field in [number * UNITS, UNITS] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&0u16.to_le_bytes());
}

fn root(number: u32) -> Digest {
    Digest::of(&number.to_le_bytes())
}

fn make(dir: &Path, objects: u32, frame_len: usize) -> std::io::Result<()> {
    fs::write(dir.join("disk.weir"), superblock())?;
    let slabs = (u64::from(objects) * u64::from(UNITS)).div_ceil(u64::from(SLAB_UNITS));
    for number in 0..slabs {
        let slab = File::create(dir.join(format!("slab-{number:05}.dat")))?;
        slab.set_len(u64::from(SLAB_UNITS) * UNIT)?;
    }
    let mut log = BufWriter::new(File::create(dir.join("index-00000001.log"))?);
    log.write_all(b"WEIRLOG1\x01\0\0\0\0\0\0\0")?;
    let (mut at, mut frame) = (16u64, Vec::new());
    for number in 0..objects {
        records(number, &mut frame);
        let last = number + 1 == objects;
        if frame.len() > frame_len || last {
            let flags = u32::from(last).to_le_bytes();
            let mut hashed = [&1u64.to_le_bytes()[..], &at.to_le_bytes(), &flags].concat();
            hashed.extend_from_slice(&frame);
            log.write_all(&(frame.len() as u32).to_le_bytes())?;
            log.write_all(&flags)?;
            log.write_all(&first_eight(&hashed))?;
            log.write_all(&frame)?;
            at += 16 + frame.len() as u64;
            frame.clear();
        }
    }
    log.flush()
}

#[expect(clippy::print_stdout, reason = "what is measured is for a person to read")]
fn measure(objects: u32, frame_len: usize) {
    let temp = tempfile::tempdir().expect("a directory");
    make(temp.path(), objects, frame_len).expect("writes");
    let disk = DiskConfig {
        path: temp.path().to_owned(),
        capacity_bytes: ByteSize::from(u64::from(objects) * u64::from(UNITS) * UNIT),
        scrub_bytes_per_second: ByteSize::from(0),
        read_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(60),
        ..DiskConfig::default()
    };
    let config = StoreConfig { memory_bytes: ByteSize::from(0), disk: vec![disk], ..StoreConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds");
    let before = HELD.load(Ordering::Relaxed);
    runtime.block_on(async {
        let begun = tokio::time::Instant::now();
        let store = SegmentStore::open(&config, Vec::new(), &Registry::new()).await.expect("opens");
        let took = begun.elapsed();
        assert_eq!(store.usage().disk.objects, u64::from(objects));
        for number in (0..objects).step_by(9_973) {
            let held = store.lookup(&key(number), u64::from(LEN), root(number));
            assert!(held.disk.is_some(), "{number}");
        }
        let each = (HELD.load(Ordering::Relaxed) - before) as f64 / f64::from(objects);
        println!("{objects} objects: {each:.1} bytes of memory each, open after {took:?}");
        assert!(each <= 100.0, "{each} bytes");
    });
}

#[test]
fn the_index_takes_less_than_a_hundred_bytes_for_each_object() {
    measure(100_000, TOLD);
}

#[test]
#[ignore = "a measurement: takes a while unoptimised"]
fn one_million() {
    measure(1_000_000, TOLD);
}

/// As it stands when each was stored alone and nothing was told again since.
#[test]
#[ignore = "a measurement: takes a while unoptimised"]
fn one_million_in_as_many_frames() {
    measure(1_000_000, 0);
}

#[test]
#[ignore = "a measurement: takes a while unoptimised"]
fn ten_million() {
    measure(10_000_000, TOLD);
}
