//! The cases, one for each promise of the contract. Each opens a store of its own and panics when the promise is broken.

#![expect(clippy::missing_panics_doc, reason = "a panic is a case's verdict")]

pub mod compact;
pub mod concurrent;
pub mod lease;
pub mod range;
pub mod restart;
pub mod txn;
pub mod watch;

/// One `#[test]` for each case. Not to be used directly: see [`crate::store_conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($name:ident, $subject:expr, $time:ident) => {
        #[doc = "Holds a store to the contract."]
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::__conformance_tests! { $subject, $time,
                txn: creates_updates_and_deletes_with_growing_revisions,
                txn: each_condition_holds_exactly_when_it_says,
                txn: all_changes_of_one_transaction_share_a_revision,
                txn: steps_see_the_steps_before_them,
                txn: what_changes_nothing_keeps_the_revision,
                txn: a_recreated_key_starts_anew,
                txn: bad_input_is_refused_and_changes_nothing,
                range: keys_come_in_order_within_the_range,
                range: a_limited_read_continues_at_its_revision,
                range: a_past_revision_reads_as_it_was,
                range: a_future_revision_is_refused,
                range: an_acknowledged_write_is_read,
                compact: below_it_is_refused_and_above_it_reads,
                compact: no_key_is_lost_and_none_comes_back,
                compact: a_deletion_at_the_compacted_revision_stays,
                compact: the_future_cannot_be_compacted,
                watch: every_change_comes_once_in_order,
                watch: it_starts_after_any_past_revision,
                watch: it_is_in_place_when_it_returns,
                watch: only_its_range_is_seen,
                watch: events_tell_what_was_and_what_is,
                watch: one_revision_is_never_split,
                watch: a_future_start_is_refused,
                watch: a_compacted_start_is_refused,
                watch: marks_come_when_asked_for,
                watch: resuming_after_any_batch_loses_and_repeats_nothing,
                watch: one_that_falls_behind_is_cut_off_alone,
                lease: keys_die_with_their_lease_in_one_revision,
                lease: it_never_runs_out_early,
                lease: a_sign_of_life_starts_its_time_again,
                lease: only_attached_keys_die,
                lease: an_unknown_lease_is_refused,
                restart: data_and_revision_are_kept,
                restart: the_sequence_goes_on,
                restart: history_and_compaction_are_kept,
                restart: watches_lose_and_repeat_nothing,
                restart: leases_are_kept_and_not_cut_short,
                restart: lease_keys_still_die_with_it,
                concurrent: no_update_is_lost,
                concurrent: histories_are_linearizable,
                concurrent: watchers_agree_with_the_writers,
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($subject:expr, virtual_time, $($group:ident: $case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                let runtime = ::tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
                runtime.expect("a runtime").block_on(async {
                    let bed = $crate::testing::Bed::virtual_time();
                    $crate::testing::conformance::$group::$case(&$subject, bed).await;
                });
            }
        )*
        /// All cases by name, to be run one at a time.
        #[allow(dead_code)]
        pub const CASES: &[(&str, fn())] = &[$((stringify!($case), $case)),*];
    };
    ($subject:expr, real_time, $($group:ident: $case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(async {
                    let bed = $crate::testing::Bed::real_time();
                    $crate::testing::conformance::$group::$case(&$subject, bed).await;
                });
            }
        )*
    };
}
