//! Giving space back: when enough of the log is only past, the state at the compacted revision is written to a file of
//! its own, and the log below it removed. Writers go on meanwhile; they share the keys with the frozen copy.

use super::engine::Engine;
use super::log::Segment;
use super::state_file::{STATE_PREFIX, StateImage, state_name};
use crate::error::Error;
use crate::store::{KeyRange, Revision};
use std::sync::atomic::Ordering;

/// How many segments hold nothing behind `floor`.
fn past(segments: &[Segment], floor: Revision) -> usize {
    segments
        .iter()
        .skip(1)
        .take_while(|next| next.revision <= floor)
        .count()
}

/// Whether removing old log is worth writing the state. At least as much as `checkpoint_bytes`, and as half the state,
/// so that no more than three times the log's bytes are ever written.
pub(crate) fn is_due(engine: &Engine) -> bool {
    let (floor, live) = {
        let state = engine.shared.state.read();
        (state.floor, state.bytes_live)
    };
    let segments = engine.segments.lock();
    let bytes: u64 = segments
        .iter()
        .take(past(&segments, floor))
        .map(|segment| segment.size)
        .sum();
    bytes >= engine.options.checkpoint_bytes.max(live / 2)
}

/// Writes a checkpoint and removes what it makes superfluous. `leases_seq`: a frame of the log, on stable storage, that
/// the present leases include.
pub(crate) fn run(engine: &Engine, leases_seq: u64) {
    let _alone = engine.checkpointing.lock();
    engine.checkpoint_due.store(false, Ordering::Release);
    if engine.closing.load(Ordering::Acquire) {
        return;
    }
    match write(engine, leases_seq) {
        Ok(()) => engine.shared.metrics.checkpoints.add(1),
        Err(_) if engine.closing.load(Ordering::Acquire) => {}
        Err(error) => {
            engine.shared.metrics.disk_errors.add(1);
            tracing::warn!(%error, "no checkpoint could be written; the log keeps growing until one can");
        }
    }
}

fn write(engine: &Engine, leases_seq: u64) -> Result<(), Error> {
    let (revision, keys, leases) = {
        let state = engine.shared.state.read();
        let leases = state.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect();
        (state.floor, state.freeze(&KeyRange::all()), leases)
    };
    let (removed, log_seq) = {
        let segments = engine.segments.lock();
        let past = past(&segments, revision);
        (past, segments.get(past).map_or(1, |first| first.seq))
    };
    let salt = engine.env.rng.next_u64();
    let image = StateImage {
        keys,
        revision,
        leases,
        leases_seq,
        log_seq,
        store: engine.store,
        salt,
    };
    let name = state_name(revision);
    let mut bytes = 0;
    engine.files.publish(&name, |file| {
        bytes = image.write(file, &|| !engine.closing.load(Ordering::Acquire))?;
        Ok(())
    })?;
    engine.state_bytes.store(bytes, Ordering::Relaxed);
    // What cannot be removed now is removed at the next opening.
    let disk = &engine.files.0;
    for old in disk.list().unwrap_or_default() {
        if old.starts_with(STATE_PREFIX) && old != name {
            let _later = disk.remove(&old);
        }
    }
    let old: Vec<Segment> = engine.segments.lock().drain(..removed).collect();
    for segment in old {
        let _later = disk.remove(&segment.name);
    }
    Ok(())
}
