//! What every store must do, told over `&dyn Store`.
//!
//! A store runs the whole suite with [`conformance_tests!`] and a function that opens an empty store for each test.

pub(in crate::store) mod administration;
pub(in crate::store) mod audience;
pub(in crate::store) mod audit;
pub(in crate::store) mod cancels;
pub(in crate::store) mod data_keys;
pub(in crate::store) mod erase;
pub(in crate::store) mod events;
pub(in crate::store) mod expressions;
pub(in crate::store) mod messages;
pub(in crate::store) mod phones;
pub(in crate::store) mod quotas;
pub(in crate::store) mod receipts;
pub(in crate::store) mod registration;
pub(in crate::store) mod reports;
pub(in crate::store) mod retention;
pub(in crate::store) mod rules;
pub(in crate::store) mod samples;
pub(in crate::store) mod work;

/// Makes a test of each promise: `$open` is an async function that gives a store and a guard of its files.
macro_rules! conformance_tests {
    ($open:path; $($room:ident: $($promise:ident),+ $(,)?;)+) => {
        $($(
            #[tokio::test]
            async fn $promise() {
                let (store, _guard) = $open().await;
                crate::store::conformance::$room::$promise(&*store).await;
                crate::store::Store::close(&*store).await;
            }
        )+)+
    };
    ($open:path) => {
        crate::store::conformance::conformance_tests! { $open;
            administration:
                a_fact_is_made_once_and_stays,
                an_app_comes_with_its_direct_channel_and_its_name_is_taken,
                a_key_is_found_listed_and_revoked_in_its_own_app_only,
                a_channel_that_is_put_again_keeps_its_number_and_gets_a_new_version,
                a_deleted_channel_frees_its_name_and_still_names_old_trails,
                a_category_belongs_to_its_app_and_keeps_its_age;
            audit:
                what_was_changed_is_told_in_the_name_of_who_acts,
                what_came_to_nothing_is_not_told,
                a_cancel_is_told_once_and_a_token_that_moves_each_time,
                the_log_is_read_by_app_time_action_and_object;
            registration:
                a_registration_key_is_found_listed_and_revoked_in_its_own_app_only,
                a_nonce_registers_once_and_a_device_keeps_number_name_and_tags,
                a_phone_that_nobody_knew_is_made_and_a_token_that_moves_leaves_the_old_one;
            data_keys:
                a_data_key_keeps_its_number_and_is_wrapped_anew,
                secrets_are_sealed_anew_only_where_nobody_put_others_meanwhile,
                a_registration_secret_is_sealed_anew_and_a_public_key_is_none;
            rules:
                an_apps_rules_are_replaced_whole_and_are_its_own,
                what_rules_ask_of_devices_is_found_by_number;
            audience:
                devices_come_back_in_the_order_given_with_all_they_were_given,
                a_device_that_is_put_again_keeps_number_secret_and_unchanged_addresses,
                an_address_that_another_device_had_moves,
                one_token_given_to_two_devices_goes_to_the_last,
                a_retired_address_that_is_given_again_is_active_under_a_new_version,
                a_verdict_on_an_older_version_changes_nothing,
                a_patch_changes_what_it_names_and_nothing_else,
                a_deleted_device_is_in_no_audience,
                filters_find_devices_by_id_user_tag_and_token,
                a_secret_bumps_the_epoch_and_the_user_name_stays,
                an_audience_is_walked_by_number_without_gap_or_double,
                callers_who_ask_at_the_same_time_each_get_what_they_would_alone,
                an_audience_that_changes_while_it_is_walked_names_nobody_twice,
                neighbours_are_found_as_each_alone_would_be,
                only_active_addresses_of_the_provider_are_sent_to;
            erase:
                what_was_said_to_erased_devices_alone_is_forgotten,
                what_calls_gave_of_erased_people_is_forgotten_in_their_own_app,
                audiences_that_are_looked_up_later_do_not_name_erased_people;
            expressions:
                any_expression_finds_who_fits_in_rounds_of_any_size;
            messages:
                an_accepted_message_is_there_with_its_targets_and_work,
                the_same_key_and_body_is_answered_with_the_first_message,
                the_same_key_with_another_body_is_refused,
                a_key_of_another_app_or_of_the_day_before_does_not_count,
                a_used_key_is_found_without_a_message_to_store,
                messages_are_listed_newest_first_by_app_and_label,
                events_become_rows_and_counters,
                what_is_recorded_is_found_however_much_of_it_lies_between_what_is_new,
                a_receipt_never_lowers_the_rank_and_its_trail_grows,
                several_events_of_one_delivery_in_one_set_are_applied_in_order,
                deliveries_are_listed_by_filter_and_by_target,
                newer_messages_of_a_key_are_found_by_device_once_a_channel_was_asked,
                an_audience_grows_until_it_is_whole,
                a_scheduled_message_is_listed_until_its_audience_is_looked_up;
            cancels:
                a_cancel_raises_the_generation_once_and_frees_its_work_at_any_time,
                what_no_phone_was_given_is_withdrawn_and_ends_cancelled,
                a_cancelled_message_that_was_scheduled_ends_without_targets,
                a_late_failure_takes_back_only_what_its_channel_still_has,
                retired_addresses_come_back_for_one_provider_and_since_a_time;
            events:
                events_are_written_only_where_somebody_listens,
                each_state_of_a_delivery_is_told_once_and_a_message_is_done_once,
                a_message_is_done_when_its_last_target_or_its_audience_is,
                events_are_read_on_from_any_number_by_app_and_kind,
                a_retired_address_and_a_channel_in_trouble_are_told,
                purged_events_are_gone_and_numbers_go_on,
                a_watched_app_is_written_down_whole_and_says_since_when,
                a_webhook_is_changed_disabled_and_enabled_with_its_work;
            reports:
                a_report_is_of_the_messages_of_its_time_whenever_they_change,
                a_stretch_of_time_counts_its_own_quarters_and_no_other,
                a_delivery_keeps_the_platform_that_its_device_had,
                a_delivery_is_counted_under_the_platform_that_its_route_was_decided_for,
                labels_beyond_the_first_hundred_of_a_day_are_counted_together;
            retention:
                what_is_over_and_too_old_goes_whole_and_all_else_stays,
                many_messages_go_a_few_at_a_time_and_those_that_stay_are_passed_once,
                a_large_message_goes_in_parts_and_nobody_sees_half_of_it,
                what_waits_in_an_inbox_goes_with_its_message,
                counters_of_reports_outlive_their_messages_and_go_by_whole_days,
                the_oldest_rows_of_the_audit_log_go_and_a_new_row_says_so;
            work:
                due_work_is_leased_once_oldest_first,
                a_new_epoch_frees_what_the_old_one_held_and_says_so,
                the_newest_id_is_known,
                a_stale_owner_changes_nothing,
                work_goes_on_waits_and_ends,
                pages_that_wait_are_found_by_message;
            phones:
                an_entry_waits_in_order_until_it_is_acknowledged,
                an_acknowledgement_ends_only_what_was_handed_out,
                an_entry_that_is_there_already_is_left_alone,
                exact_acknowledgements_end_only_what_they_name,
                expired_entries_are_not_handed_out,
                an_entry_that_ends_without_the_phone_is_gone,
                positions_grow_in_commit_order_even_through_an_empty_inbox,
                the_oldest_marketing_gives_way_in_a_full_inbox,
                an_inbox_full_of_what_people_wait_for_refuses,
                who_finds_no_room_goes_on_where_there_is_work_for_that,
                a_phone_speaks_only_for_its_own_deliveries,
                a_repeated_report_changes_nothing,
                a_dismissal_is_told_once_and_ends_the_inbox_entry,
                reports_and_acknowledgements_in_any_order_end_in_one_state;
            quotas:
                a_target_uses_all_its_quotas_or_none_and_the_page_says_who_is_counted,
                a_use_that_is_given_back_is_free_again_and_old_periods_are_forgotten,
                a_quota_that_a_vendor_calls_used_up_is_so_until_its_time,
                a_quota_never_lets_more_through_than_it_allows;
            receipts:
                callbacks_are_journalled_in_order_and_never_under_an_old_number,
                a_read_of_the_journal_is_bounded_in_bytes_but_never_empty,
                a_vendors_word_moves_rows_and_counters_and_ends_its_journal_row,
                a_vendors_word_about_nothing_recorded_leaves_no_trace,
                a_channel_speaks_only_for_what_it_still_has,
                what_is_not_recorded_yet_is_known_of_many_while_a_message_is_under_way_and_after,
                tokens_lead_to_devices_even_when_retired_and_to_given_targets,
                a_new_callback_secret_outlives_a_put;
        }
    };
}
pub(in crate::store) use conformance_tests;
