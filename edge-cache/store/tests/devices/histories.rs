//! Random histories against a map of bytes.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use bytes::Bytes;
use proptest::prelude::*;
use store::FileName;

use crate::support::{LOG, PAGE_LEN, Rig, SLAB, bytes_of, rigs};

/// Places and lengths in pages for slabs, in bytes (and a bit) for the others.
#[derive(Debug, Clone)]
enum Step {
    Write { file: FileName, at: u64, len: usize, parts: usize },
    Read { file: FileName, at: u64, len: usize },
    Resize { file: FileName, len: u64 },
    Sync { file: FileName },
    Restart,
}

fn file() -> impl Strategy<Value = FileName> {
    prop::sample::select(vec![LOG, SLAB, FileName::Slab(4), FileName::Superblock])
}

/// Small numbers, rounded to what the file takes.
fn place(file: FileName, at: u64, len: u64) -> (u64, u64) {
    let unit = if matches!(file, FileName::Slab(_)) { PAGE_LEN as u64 } else { 911 };
    (at * unit, len * unit)
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (file(), 0..12_u64, 0..9_u64).prop_map(|(file, at, len)| (file, place(file, at, len)));
    prop_oneof![
        4 => (place(), 1..7_usize).prop_map(|((file, (at, len)), parts)| Step::Write { file, at, len: len as usize, parts }),
        3 => place().prop_map(|(file, (at, len))| Step::Read { file, at, len: len as usize }),
        2 => place().prop_map(|(file, (_, len))| Step::Resize { file, len }),
        1 => file().prop_map(|file| Step::Sync { file }),
        1 => Just(Step::Restart),
    ]
}

/// What every device must be indistinguishable from.
type Model = BTreeMap<FileName, Vec<u8>>;

fn write(model: &mut Model, file: FileName, at: u64, bytes: &[u8]) -> Result<(), ErrorKind> {
    if matches!(file, FileName::Slab(_)) && !model.contains_key(&file) {
        return Err(ErrorKind::NotFound);
    }
    let old = model.entry(file).or_default();
    let at = at as usize;
    if !bytes.is_empty() {
        old.resize(old.len().max(at + bytes.len()), 0);
        old[at..at + bytes.len()].copy_from_slice(bytes);
    }
    Ok(())
}

fn read(model: &Model, file: FileName, at: u64, len: usize) -> Result<Bytes, ErrorKind> {
    let bytes = model.get(&file).ok_or(ErrorKind::NotFound)?;
    let range = at as usize..at as usize + len;
    if len == 0 {
        return Ok(Bytes::new());
    }
    bytes.get(range).map(Bytes::copy_from_slice).ok_or(ErrorKind::UnexpectedEof)
}

async fn run(rig: &mut Rig, steps: &[Step]) {
    let mut model = Model::new();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Write { file, at, len, parts } => {
                let bytes = bytes_of(number as u64, len);
                let cut = len.div_ceil(parts).max(1);
                let parts = (0..len).step_by(cut).map(|at| bytes.slice(at..len.min(at + cut))).collect();
                let done = rig.device.write(file, at, parts).await.map_err(|error| error.kind());
                assert_eq!(done, write(&mut model, file, at, &bytes), "{}: {step:?}", rig.name);
            }
            Step::Read { file, at, len } => {
                let done = rig.device.read(file, at, len).await.map_err(|error| error.kind());
                assert_eq!(done, read(&model, file, at, len), "{}: {step:?}", rig.name);
            }
            Step::Resize { file, len } => {
                rig.resize(file, len).await;
                if len == 0 {
                    model.remove(&file);
                } else {
                    model.entry(file).or_default().resize(len as usize, 0);
                }
            }
            Step::Sync { file } => rig.device.sync(file).await.expect("syncs"),
            Step::Restart => {
                let listed = rig.restart().await;
                let expected: Vec<_> =
                    model.iter().map(|(file, bytes)| (*file, bytes.len() as u64)).collect();
                assert_eq!(listed, expected, "{}", rig.name);
            }
        }
    }
    for (file, bytes) in &model {
        assert_eq!(rig.read(*file, 0, bytes.len()).await, bytes, "{}", rig.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_device_is_a_map_of_bytes(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for mut rig in rigs().await {
                run(&mut rig, &steps).await;
            }
        });
    }
}
