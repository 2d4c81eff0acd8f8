//! What every backend has to keep of the contract, as tests that know none.
//!
//! A backend registers all cases with [`conformance`]. They use the contract alone; what they need
//! besides is in [`Bench`]. That the cases can fail is tested where a backend can be broken on
//! purpose.

mod append_only;
mod conflict;
mod durability;
pub(in crate::store) mod fixtures;
mod isolation;
mod order;
mod paging;
mod promises;
mod quota;
mod rollback;
mod uniqueness;
mod version;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::store::Store;

/// A database under test, empty at first.
pub(in crate::store) trait Bench: Send + Sync {
    /// Opens it. Another handle is like another process.
    fn open(&self) -> Store;

    /// That many of the next runs of work meet a conflict.
    fn conflict(&self, runs: u32, when: When);

    /// Tries to edit and to delete entries of every audit log with the database's own statements;
    /// returns what it let happen.
    fn edit_logs(&self) -> Vec<String>;
}

/// Where a run meets its conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum When {
    /// At its first statement.
    Statement,
    /// After all of its statements have gone well.
    Commit,
}

/// A promise of the contract.
#[derive(Clone, Copy)]
pub(in crate::store) struct Case {
    pub(in crate::store) group: &'static str,
    pub(in crate::store) name: &'static str,
    pub(in crate::store) run: fn(Arc<dyn Bench>) -> BoxFuture<'static, ()>,
}

/// Lists the cases, and makes of them the macro with which a backend registers them. `$` is passed
/// in, since a macro cannot write it into another one.
macro_rules! cases {
    ($d:tt $($group:ident: $($case:ident),+ $(,)?;)+) => {
        pub(in crate::store) const CASES: &[Case] = &[$($(Case {
            group: stringify!($group),
            name: stringify!($case),
            run: |bench| Box::pin($group::$case(bench)),
        }),+),+];

        /// A test for each case, in a module for each group; `$bench` makes an `Arc<dyn Bench>`.
        macro_rules! conformance {
            ($d bench:expr) => {$(
                mod $group {
                    $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        let found = crate::store::contract::conformance::case(
                            stringify!($group), stringify!($case));
                        (found.run)($d bench).await;
                    })+
                }
            )+};
        }
        pub(in crate::store) use conformance;
    };
}

cases! { $
    uniqueness:
        an_address_belongs_to_one_account,
        a_username_belongs_to_one_account,
        a_referral_code_belongs_to_one_account,
        a_subdomain_belongs_to_one_deployment_until_it_is_destroyed,
        a_custom_domain_belongs_to_one_deployment_until_it_is_destroyed,
        an_organisation_has_its_slug_alone_until_it_ends,
        a_team_has_its_slug_alone_in_its_organisation,
        a_host_has_its_name_alone,
        a_tier_has_its_slug_alone,
        a_key_has_its_hash_alone,
        a_user_code_is_of_one_device;
    order:
        deployments_are_listed_by_age,
        hosts_are_listed_by_name,
        tiers_are_listed_as_they_were_added,
        logins_are_listed_by_use,
        keys_and_invitations_are_listed_newest_first,
        members_are_listed_as_they_joined,
        teams_are_listed_own_first_and_then_by_slug,
        organisations_and_apps_are_listed_oldest_first,
        logs_are_listed_by_number,
        revisions_are_listed_by_number,
        mails_are_due_in_order;
    paging:
        pages_of_deployments_neither_repeat_nor_skip,
        pages_of_accounts_neither_repeat_nor_skip,
        a_search_takes_wildcards_as_they_are_and_ignores_case,
        pages_of_acts_apps_and_allowed_accounts_go_on_where_the_last_one_ended,
        pages_of_hosts_go_on_where_the_last_one_ended,
        pages_of_deployments_with_many_revisions_go_on_where_the_last_one_ended,
        a_purge_takes_no_more_than_it_is_told;
    append_only:
        every_log_is_in_the_chain,
        the_logs_cannot_be_edited,
        an_entry_without_its_commit_leaves_no_gap,
        a_deploy_ends_once_and_its_entry_stays,
        old_entries_go_from_the_beginning_and_an_entry_says_so;
    isolation:
        no_update_is_lost,
        no_generation_is_given_twice,
        a_reader_sees_one_snapshot,
        a_writer_sees_its_own_changes,
        what_is_not_committed_is_seen_by_nobody;
    quota:
        a_limit_counted_in_the_transaction_holds,
        a_join_token_is_taken_once,
        codes_work_once,
        an_organisation_keeps_an_owner,
        a_request_with_one_key_is_done_once;
    rollback:
        an_error_undoes_everything,
        a_panic_undoes_everything_and_the_store_goes_on,
        an_error_undoes_nobody_elses_work;
    conflict:
        the_work_runs_again_and_its_effects_happen_once,
        a_conflict_that_the_work_ignores_counts,
        a_read_runs_again,
        endless_conflicts_end_in_busy;
    durability:
        what_was_committed_is_there_after_a_reopen,
        what_was_rolled_back_is_not_there_after_a_reopen;
    version:
        it_changes_before_the_writer_is_told,
        it_changes_with_a_commit_of_another_handle,
        it_stays_while_nobody_writes;
    promises:
        accounts_are_found_in_any_spelling_until_they_are_deleted,
        verification_links_work_once_and_only_a_few_are_kept,
        mailed_links_are_counted_voided_and_purged,
        an_erased_account_leaves_nothing_of_a_person,
        a_second_factor_is_proposed_enabled_and_cleared,
        a_login_ends_with_its_grants_and_others_stay,
        ending_everything_of_an_account_leaves_the_others,
        the_consents_kept_are_those_given_last,
        connections_combine_consents,
        a_purge_of_tokens_forgets_consents_with_nothing_left,
        a_key_is_never_used_earlier_than_before,
        an_invitation_replaces_the_earlier_one,
        an_organisation_ends_with_all_that_is_in_it,
        the_same_mail_waits_once,
        a_valid_answer_is_not_replaced,
        a_host_that_joins_again_starts_over,
        the_epoch_rises_to_the_floor_at_least,
        only_the_newest_document_is_kept,
        loads_follow_deployments,
        closed_hosts_are_counted_by_reason,
        what_a_revision_learns_first_stays,
        sealed_values_under_other_keys_are_found_and_replaced_once,
        a_closed_tier_is_open_to_whom_it_is_allowed,
        failed_first_deploys_are_counted,
        times_and_requests_are_remembered,
        administrators_are_counted_and_suspended;
}

pub(in crate::store) fn case(group: &str, name: &str) -> Case {
    *CASES.iter().find(|case| case.group == group && case.name == name).unwrap()
}
