//! What the tier above relies on.

use std::io::ErrorKind;
use std::pin::pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use store::FileName;
use store::device::PAGE;

use crate::support::{LOG, PAGE_LEN, SLAB, bytes_of, rigs};

#[tokio::test]
async fn what_was_written_is_read_back() {
    for rig in rigs().await {
        let log = bytes_of(1, 10_000);
        for (at, len) in [(0, 1), (1, 4_095), (4_096, 904), (5_000, 5_000)] {
            rig.write(LOG, at as u64, &log[at..at + len]).await;
        }
        for (at, len) in [(0, 10_000), (1, 1), (4_095, 2), (4_096, 4_096), (9_999, 1)] {
            assert_eq!(rig.read(LOG, at as u64, len).await, log[at..at + len], "{}", rig.name);
        }
        rig.resize(SLAB, 8 * PAGE).await;
        let (first, second) = (bytes_of(2, 3 * PAGE_LEN), bytes_of(3, 2 * PAGE_LEN));
        rig.write(SLAB, PAGE, &first).await;
        rig.write(SLAB, 3 * PAGE, &second).await;
        let expected = [&vec![0; PAGE_LEN], &first[..2 * PAGE_LEN], &second, &vec![0; 3 * PAGE_LEN]].concat();
        assert_eq!(rig.read(SLAB, 0, 8 * PAGE_LEN).await, expected, "{}", rig.name);
        rig.write(FileName::Superblock, 0, &first[..PAGE_LEN]).await;
        assert_eq!(rig.read(FileName::Superblock, 0, PAGE_LEN).await, first[..PAGE_LEN], "{}", rig.name);
    }
}

#[tokio::test]
async fn what_is_read_does_not_change_with_the_file() {
    for rig in rigs().await {
        rig.resize(SLAB, PAGE).await;
        let before = rig.read(SLAB, 0, PAGE_LEN).await;
        rig.write(SLAB, 0, &bytes_of(1, PAGE_LEN)).await;
        assert!(before.iter().all(|byte| *byte == 0), "{}", rig.name);
    }
}

#[tokio::test]
async fn the_end_of_a_file_and_an_absent_file_are_told_apart() {
    for rig in rigs().await {
        assert_eq!(rig.fails_to_read(LOG, 0, 1).await, ErrorKind::NotFound, "{}", rig.name);
        assert_eq!(rig.fails_to_read(SLAB, 0, PAGE_LEN).await, ErrorKind::NotFound, "{}", rig.name);
        let absent = rig.device.write(SLAB, 0, vec![bytes_of(1, PAGE_LEN)]).await;
        assert_eq!(absent.expect_err("no slab").kind(), ErrorKind::NotFound, "{}", rig.name);

        rig.write(LOG, 0, b"abcde").await;
        rig.resize(SLAB, 2 * PAGE).await;
        for (file, at, len) in [
            (LOG, 0, 6),
            (LOG, 4, 2),
            (LOG, 5, 1),
            (LOG, 1 << 40, 1),
            (SLAB, 0, 3 * PAGE_LEN),
            (SLAB, 2 * PAGE, PAGE_LEN),
        ] {
            assert_eq!(rig.fails_to_read(file, at, len).await, ErrorKind::UnexpectedEof, "{}", rig.name);
        }
        for (file, at, len) in
            [(SLAB, 1, PAGE_LEN), (SLAB, 0, 1), (LOG, u64::MAX, 1), (LOG, i64::MAX as u64, 1)]
        {
            assert_eq!(rig.fails_to_read(file, at, len).await, ErrorKind::InvalidInput, "{}", rig.name);
            let written = rig.device.write(file, at, vec![bytes_of(1, len)]).await;
            assert_eq!(written.expect_err("no such place").kind(), ErrorKind::InvalidInput, "{}", rig.name);
        }
        assert!(rig.read(LOG, 2, 0).await.is_empty());
        // None of these failures is in the way of the next operation.
        assert_eq!(rig.read(LOG, 0, 5).await, "abcde", "{}", rig.name);
    }
}

#[tokio::test]
async fn writes_make_files_longer_and_writes_of_nothing_make_logs() {
    for mut rig in rigs().await {
        rig.write(LOG, 5_000, b"x").await;
        assert_eq!(rig.read(LOG, 0, 5_001).await, [&vec![0; 5_000], &b"x"[..]].concat(), "{}", rig.name);
        rig.resize(SLAB, PAGE).await;
        rig.write(SLAB, 4 * PAGE, &bytes_of(1, PAGE_LEN)).await;
        rig.device.write(FileName::Log(8), 9, Vec::new()).await.expect("makes it");
        rig.device.write(FileName::Log(9), 0, vec![Bytes::new(); 3]).await.expect("makes it");
        let expected =
            [(FileName::Log(7), 5_001), (FileName::Log(8), 0), (FileName::Log(9), 0), (SLAB, 5 * PAGE)];
        assert_eq!(rig.restart().await, expected, "{}", rig.name);
    }
}

#[tokio::test]
async fn a_file_becomes_exactly_so_long() {
    for mut rig in rigs().await {
        let bytes = bytes_of(1, 4 * PAGE_LEN);
        rig.resize(SLAB, 4 * PAGE).await;
        rig.write(SLAB, 0, &bytes).await;
        rig.resize(SLAB, 2 * PAGE).await;
        assert_eq!(
            rig.fails_to_read(SLAB, PAGE, 2 * PAGE_LEN).await,
            ErrorKind::UnexpectedEof,
            "{}",
            rig.name
        );
        rig.resize(SLAB, 2 * PAGE).await;
        rig.resize(SLAB, 6 * PAGE).await;
        let expected = [&bytes[..2 * PAGE_LEN], &vec![0; 4 * PAGE_LEN]].concat();
        assert_eq!(rig.read(SLAB, 0, 6 * PAGE_LEN).await, expected, "{}: cut off is gone", rig.name);

        rig.write(LOG, 0, b"abcdefgh").await;
        rig.resize(LOG, 3).await;
        rig.write(LOG, 3, b"X").await;
        assert_eq!(rig.read(LOG, 0, 4).await, "abcX", "{}", rig.name);
        rig.resize(FileName::Superblock, PAGE).await;

        for _ in 0..2 {
            rig.resize(SLAB, 0).await;
            assert_eq!(rig.fails_to_read(SLAB, 0, PAGE_LEN).await, ErrorKind::NotFound, "{}", rig.name);
            rig.device.sync(SLAB).await.expect("its absence is safe");
        }
        rig.resize(SLAB, PAGE).await;
        assert_eq!(rig.read(SLAB, 0, PAGE_LEN).await, vec![0; PAGE_LEN], "{}: a new file", rig.name);
        assert_eq!(
            rig.restart().await,
            [(FileName::Superblock, PAGE), (LOG, 4), (SLAB, PAGE)],
            "{}",
            rig.name
        );
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_written() {
    for mut rig in rigs().await {
        let bytes = bytes_of(5, 300 * PAGE_LEN);
        rig.resize(SLAB, 300 * PAGE).await;
        rig.write(SLAB, 0, &bytes).await;
        rig.write(LOG, 0, b"record").await;
        for file in [SLAB, LOG] {
            rig.device.sync(file).await.expect("syncs");
            rig.device.sync(file).await.expect("syncs what is safe already");
        }
        rig.write(LOG, 6, b"unsynced").await;
        assert_eq!(rig.restart().await, [(LOG, 14), (SLAB, 300 * PAGE)], "{}", rig.name);
        assert_eq!(rig.read(SLAB, 0, bytes.len()).await, bytes, "{}", rig.name);
        assert_eq!(rig.read(LOG, 0, 14).await, "recordunsynced", "{}", rig.name);
    }
}

#[tokio::test]
async fn one_process_at_a_time() {
    for rig in rigs().await {
        rig.resize(SLAB, PAGE).await;
        let other = rig.another_process();
        for _ in 0..2 {
            assert_eq!(other.open().await.expect_err("held").kind(), ErrorKind::WouldBlock, "{}", rig.name);
            let refused = other.write(LOG, 0, vec![Bytes::from_static(b"x")]).await;
            assert_eq!(refused.expect_err("not open").kind(), ErrorKind::Other, "{}", rig.name);
        }
        rig.device.open().await.expect("what is ours can be opened again");
        rig.device.close().await.expect("closes");
        rig.device.close().await.expect("is closed already");
        assert_eq!(other.open().await.expect("free").len(), 1, "{}", rig.name);
        assert_eq!(rig.device.open().await.expect_err("held").kind(), ErrorKind::WouldBlock, "{}", rig.name);
        other.resize(SLAB, 2 * PAGE).await.expect("theirs now");
        drop(other);
        assert_eq!(rig.device.open().await.expect("free again"), [(SLAB, 2 * PAGE)], "{}", rig.name);
        rig.write(SLAB, PAGE, &bytes_of(1, PAGE_LEN)).await;
    }
}

#[tokio::test]
async fn a_closed_device_is_read_and_not_written() {
    for rig in rigs().await {
        rig.resize(SLAB, PAGE).await;
        let bytes = bytes_of(1, PAGE_LEN);
        rig.write(SLAB, 0, &bytes).await;
        rig.device.close().await.expect("closes");
        let write = rig.device.write(SLAB, 0, vec![bytes_of(2, PAGE_LEN)]).await;
        for refused in [write, rig.device.sync(SLAB).await, rig.device.resize(SLAB, 0).await] {
            let error = refused.expect_err("closed");
            assert_eq!(error.kind(), ErrorKind::Other, "{}", rig.name);
            assert!(error.to_string().contains("closed"), "{error}");
        }
        assert_eq!(rig.read(SLAB, 0, PAGE_LEN).await, bytes, "{}", rig.name);
        rig.device.open().await.expect("opens");
        rig.resize(SLAB, 0).await;
    }
}

#[tokio::test]
async fn seventeen_megabytes_in_groups_are_one_write() {
    for rig in rigs().await {
        let bytes = bytes_of(9, 17_000_000_usize.next_multiple_of(PAGE_LEN));
        let parts: Vec<Bytes> = (0..bytes.len())
            .step_by(16_384)
            .map(|at| bytes.slice(at..bytes.len().min(at + 16_384)))
            .collect();
        assert!(parts.len() > 1_024, "more than one call takes");
        rig.resize(SLAB, 32 << 20).await;
        rig.device.write(SLAB, 5 * PAGE, parts.clone()).await.expect("writes");
        assert_eq!(rig.read(SLAB, 5 * PAGE, bytes.len()).await, bytes, "{}", rig.name);
        rig.device.write(LOG, 3, parts).await.expect("writes");
        assert_eq!(rig.read(LOG, 3, bytes.len()).await, bytes, "{}", rig.name);
        // Parts that are no pages, in a write that is.
        let odd: Vec<Bytes> =
            (0..3 * PAGE_LEN).step_by(5).map(|at| bytes.slice(at..(at + 5).min(3 * PAGE_LEN))).collect();
        rig.device.write(SLAB, 0, odd).await.expect("writes");
        assert_eq!(rig.read(SLAB, 0, 3 * PAGE_LEN).await, bytes[..3 * PAGE_LEN], "{}", rig.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_walk_away_do_no_harm() {
    for mut rig in rigs().await {
        let pages = 64_u64;
        let (old, new) = (bytes_of(1, PAGE_LEN * pages as usize), bytes_of(2, PAGE_LEN * pages as usize));
        rig.resize(SLAB, pages * PAGE).await;
        rig.write(SLAB, 0, &old).await;
        for at in (0..pages).step_by(4) {
            let range = (at * PAGE) as usize..(at * PAGE) as usize + 4 * PAGE_LEN;
            let parts =
                (0..4).map(|n| new.slice(range.clone()).slice(n * PAGE_LEN..(n + 1) * PAGE_LEN)).collect();
            let read = rig.device.read(SLAB, 0, PAGE_LEN);
            let mut both = pin!(join(rig.device.write(SLAB, at * PAGE, parts), read));
            // Asked a few times, and left wherever that has brought them.
            for _ in 0..at / 4 % 5 {
                if both.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        rig.device.close().await.expect("waits for what is under way");
        rig.restart().await;
        let now = rig.read(SLAB, 0, old.len()).await;
        for at in (0..now.len()).step_by(PAGE_LEN) {
            let page = at..at + PAGE_LEN;
            assert!(
                now[page.clone()] == old[page.clone()] || now[page.clone()] == new[page],
                "{}: {at}",
                rig.name
            );
        }
        rig.write(SLAB, 0, &new).await;
        assert_eq!(rig.read(SLAB, 0, new.len()).await, new, "{}: every place came back", rig.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_wait_for_their_turn() {
    for rig in rigs().await {
        rig.resize(SLAB, 200 * PAGE).await;
        let writes = (0..200).map(|n| rig.device.write(SLAB, n * PAGE, vec![bytes_of(n, PAGE_LEN)]));
        assert!(join_all(writes).await.iter().all(Result::is_ok), "{}", rig.name);
        let reads = join_all((0..200).map(|n| rig.device.read(SLAB, n * PAGE, PAGE_LEN))).await;
        for (n, read) in reads.into_iter().enumerate() {
            assert_eq!(read.expect("reads"), bytes_of(n as u64, PAGE_LEN), "{}", rig.name);
        }
        // More files than may be open.
        let logs = (0..20).map(|n| rig.device.write(FileName::Log(n), n, vec![bytes_of(n, 100)]));
        assert!(join_all(logs).await.iter().all(Result::is_ok), "{}", rig.name);
        let syncs = (0..20).map(|n| rig.device.sync(FileName::Log(n)));
        assert!(join_all(syncs).await.iter().all(Result::is_ok), "{}", rig.name);
        for n in 0..20 {
            assert_eq!(rig.read(FileName::Log(n), n, 100).await, bytes_of(n, 100), "{}", rig.name);
        }
    }
}
