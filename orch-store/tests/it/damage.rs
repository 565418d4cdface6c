//! Damaged files: found at opening, named, never served, never changed; and what only looks damaged.

use crate::support::{in_virtual_time, one_thread, put, sleep};
use orch_core::rng::SeededRng;
use orch_store::embedded::{
    DirDisk, Disk, Options, RestoreOptions, check, check_disk, restore, restore_disk, verify_snapshot,
};
use orch_store::testing::{Bed, FaultDisk};
use orch_store::{EmbeddedStore, Error, KeyRange, Op, ReadAt, Revision, Store, Txn};
use std::sync::Arc;
use std::time::Duration;

fn open(disk: &FaultDisk, options: Options) -> Result<EmbeddedStore, Error> {
    EmbeddedStore::open_on(Arc::new(disk.clone()), options, one_thread(1))
}

/// A closed store with a checkpoint, several segments and keys `/k/0`…
async fn filled(options: Options) -> FaultDisk {
    let disk = FaultDisk::default();
    let store = open(&disk, options).expect("it opens");
    for n in 0..60 {
        let revision = put(&store, &format!("/k/{n}"), &"v".repeat(200))
            .await
            .expect("it writes");
        if n == 40 {
            store.compact(revision).await.expect("it compacts");
        }
    }
    store.close().await;
    drop(store);
    disk
}

fn small() -> Options {
    Options {
        segment_bytes: 3000,
        grow_bytes: 0,
        checkpoint_bytes: 6000,
        ..Options::default()
    }
}

#[test]
fn every_flipped_bit_is_found_and_named() {
    in_virtual_time(async {
        let sound = filled(small()).await;
        let files = sound.files();
        assert!(
            files.iter().any(|(name, _)| name.starts_with("state-")),
            "there is a checkpoint: {files:?}"
        );
        assert!(
            files.iter().filter(|(name, _)| name.starts_with("log-")).count() > 2,
            "there is a log: {files:?}"
        );
        let mut named = 0;
        let last = files
            .iter()
            .rfind(|(name, _)| name.starts_with("log-"))
            .expect("a log")
            .0
            .clone();
        for (name, size) in files {
            // The very last frame only says that the store was closed cleanly. Without it, it was not; nothing is lost.
            let size = if name == last { size - 48 } else { size };
            for at in (0..size).step_by(37) {
                let disk = sound.after_kill();
                assert!(disk.tamper(&name, |data| data[at as usize] ^= 1 << (at % 8)));
                let before = disk.files();
                match open(&disk, small()) {
                    Err(Error::Corrupt {
                        file, offset, key, ..
                    }) => {
                        assert!(file.ends_with(&name), "{} for {name} at {at}", file.display());
                        assert!(offset <= at, "{offset} for {name} at {at}");
                        named += usize::from(key.is_some_and(|key| key.starts_with("/k/")));
                    }
                    Err(other) => panic!("{name} at {at}: {other}"),
                    Ok(_) => panic!("damage in {name} at byte {at} was not found"),
                }
                assert_eq!(disk.files(), before, "a damaged store is not touched");
                let report = check_disk(Arc::new(disk)).expect("a check");
                assert!(!report.is_ok(), "{name} at {at}");
            }
        }
        assert!(named > 100, "damage in a record names its key: {named}");
        let report = check_disk(Arc::new(sound)).expect("a check");
        assert!(
            report.is_ok() && report.keys == 60 && report.frames > 60,
            "{report:?}"
        );
    });
}

#[test]
fn a_missing_file_is_found() {
    in_virtual_time(async {
        let sound = filled(small()).await;
        let names: Vec<_> = sound.files().into_iter().map(|(name, _)| name).collect();
        for name in &names {
            let disk = sound.after_kill();
            disk.remove(name).expect("it is removed");
            let error = open(&disk, small()).map(drop).expect_err(name);
            assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error}");
        }
    });
}

#[test]
fn a_cut_in_the_middle_is_damage_and_a_torn_end_is_not() {
    in_virtual_time(async {
        let disk = FaultDisk::default();
        let options = Options {
            grow_bytes: 0,
            ..Options::default()
        };
        let store = open(&disk, options).expect("it opens");
        for n in 0..5 {
            put(&store, &format!("/k/{n}"), "v").await.expect("it writes");
        }
        // The moment after the answer: nothing behind the last frame says yet that it was synced.
        let killed = disk.after_kill();
        let (name, size) = killed.files().pop().expect("a log");
        let torn = killed.after_kill();
        assert!(torn.tamper(&name, |data| data.truncate(size as usize - 5)));
        let reopened = open(&torn, options).expect("a torn last write is no damage");
        assert_eq!(reopened.status().await.expect("a status").keys, 4);
        // Once the store has settled, the same cut is known to be damage.
        sleep(Duration::from_secs(1)).await;
        let settled = disk.after_kill();
        assert!(settled.tamper(&name, |data| data[size as usize - 1] ^= 1));
        let error = open(&settled, options).map(drop).expect_err("it is damage");
        assert!(
            matches!(&error, Error::Corrupt { key: Some(key), .. } if key == "/k/4"),
            "{error}"
        );
    });
}

#[test]
fn a_newer_format_is_refused() {
    in_virtual_time(async {
        let disk = filled(Options::default()).await;
        let (name, _) = disk.files().remove(0);
        disk.tamper(&name, |data| {
            data[8] = 2;
            data[12..16].fill(0);
            let crc = crc32fast::hash(&data[..64]);
            data[12..16].copy_from_slice(&crc.to_le_bytes());
        });
        let error = open(&disk, Options::default())
            .map(drop)
            .expect_err("it is refused");
        assert!(
            matches!(
                error,
                Error::NewerFormat {
                    found: 2,
                    supported: 1,
                    ..
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn the_directory_is_locked() {
    in_virtual_time(async {
        let bed = Bed::virtual_time();
        let open = || EmbeddedStore::open(&bed.dir, bed.env.clone());
        let store = open().await.expect("it opens");
        match open().await.map(drop) {
            Err(Error::Locked { path, owner }) => {
                assert_eq!((path, owner), (bed.dir.clone(), Some(std::process::id())));
            }
            other => panic!("it is locked, not {other:?}"),
        }
        assert!(matches!(check(&bed.dir).map(drop), Err(Error::Locked { .. })));
        store.close().await;
        open().await.expect("it opens once it is free");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&bed.dir).expect("the directory"));
        assert_eq!(mode & 0o777, 0o700, "nobody else may look");
    });
}

#[test]
fn a_place_that_cannot_be_written_is_refused() {
    in_virtual_time(async {
        let bed = Bed::virtual_time();
        std::fs::create_dir_all(&bed.dir).expect("a directory");
        let file = bed.dir.join("file");
        std::fs::write(&file, "x").expect("a file");
        let error = EmbeddedStore::open(file.join("store"), bed.env.clone())
            .await
            .map(drop)
            .expect_err("no place");
        assert!(matches!(error, Error::Io { .. }), "{error}");
    });
}

#[test]
fn a_snapshot_is_taken_while_writing_and_restored() {
    in_virtual_time(async {
        let bed = Bed::virtual_time();
        let store = EmbeddedStore::open(bed.dir.join("a"), bed.env.clone())
            .await
            .expect("it opens");
        let lease = store
            .leases()
            .grant(Duration::from_secs(1000))
            .await
            .expect("a lease");
        for n in 0..50 {
            put(&store, &format!("/k/{n}"), "v").await.expect("it writes");
        }
        let leased = Op::Put {
            key: "/leased".into(),
            value: "v".into(),
            lease: Some(lease),
        };
        store.txn(Txn::of([leased])).await.expect("it writes");
        let before = store
            .range(KeyRange::all(), ReadAt::Latest, None)
            .await
            .expect("a page");
        let file = bed.dir.join("snapshot");
        let (taken, written) = futures::join!(store.snapshot(&file), put(&store, "/k/during", "v"));
        let (taken, _) = (taken.expect("a snapshot"), written.expect("it writes"));
        assert!(taken.revision >= before.revision);
        assert_eq!(verify_snapshot(&file).expect("it is whole"), taken);
        let saved = store
            .range(KeyRange::all(), ReadAt::Exact(taken.revision), None)
            .await
            .expect("a page");
        store.close().await;

        let to = bed.dir.join("b");
        let info = restore(&file, &to, RestoreOptions::default(), &bed.env).expect("it is restored");
        assert_eq!((info.revision, info.keys), (taken.revision, taken.keys));
        let restored = EmbeddedStore::open(&to, bed.env.clone()).await.expect("it opens");
        assert_eq!(
            restored
                .range(KeyRange::all(), ReadAt::Latest, None)
                .await
                .expect("a page"),
            saved
        );
        restored.leases().revoke(lease).await.expect("the lease is there");
        assert!(
            restored
                .range(KeyRange::key("/leased"), ReadAt::Latest, None)
                .await
                .expect("a page")
                .kvs
                .is_empty()
        );
        restored.close().await;
        let again = restore(&file, &to, RestoreOptions::default(), &bed.env).expect_err("it is refused");
        assert!(matches!(again, Error::Invalid { .. }), "{again}");

        let disk = FaultDisk::default();
        let skip = RestoreOptions { skip_revisions: 1000 };
        restore_disk(&file, Arc::new(disk.clone()), skip, &bed.env).expect("it is restored");
        let skipped = open(&disk, Options::default()).expect("it opens");
        let status = skipped.status().await.expect("a status");
        assert_eq!(status.revision, Revision(taken.revision.0 + 1000));
        assert!(matches!(
            skipped.watch(KeyRange::all(), taken.revision).await,
            Err(Error::Compacted { .. })
        ));

        let mut bytes = std::fs::read(&file).expect("the snapshot");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).expect("the snapshot");
        assert!(matches!(verify_snapshot(&file), Err(Error::Corrupt { .. })));
        let error =
            restore(&file, &bed.dir.join("c"), RestoreOptions::default(), &bed.env).expect_err("damaged");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(!bed.dir.join("c").exists(), "a damaged snapshot makes no store");
    });
}

#[test]
fn garbage_never_panics() {
    use orch_core::rng::Rng;
    in_virtual_time(async {
        let sound = filled(small()).await;
        let rng = SeededRng::new(3);
        let rng: &dyn Rng = &rng;
        for _ in 0..300 {
            let disk = sound.after_kill();
            let files = disk.files();
            let (name, size) = &files[rng.below(files.len() as u64) as usize];
            disk.tamper(name, |data| {
                let from = rng.below(*size) as usize;
                let to = (from + rng.below(400) as usize).min(data.len());
                match rng.below(3) {
                    0 => rng.fill(&mut data[from..to]),
                    1 => data[from..to].fill(0),
                    _ => drop(data.drain(from..to)),
                }
            });
            match open(&disk, small()).map(drop) {
                Ok(()) | Err(Error::Corrupt { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let empty: Arc<dyn Disk> = Arc::new(DirDisk::new(std::env::temp_dir().join("orch-store-none/none")));
        assert!(empty.list().is_err());
    });
}
