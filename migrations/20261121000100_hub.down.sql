-- Takes the hub away, with everything it knows.
DROP FUNCTION publish(text, text, jsonb);
DROP FUNCTION publish(text, text, text);
DROP FUNCTION publish(text, text, json);
DROP VIEW delivery_states, delivery_lanes, unfinished_deliveries;
DROP TABLE poller_snapshots, poller_bookmarks, pollers, log_entries, held_deliveries,
    delivered_identifiers, delivery_attempts, deliveries, hub_idempotency_keys, hub_descendants, hub_messages,
    learned_parameters, mappings, parameters, endpoint_failures, endpoints, stores;
TRUNCATE line_waits, lines, series;
DELETE FROM schedules WHERE kind IN ('mapping', 'poller');
DELETE FROM dispatch WHERE lane IN (SELECT id FROM lanes WHERE kind IN ('endpoint', 'router', 'poller'));
DELETE FROM scheduled WHERE lane IN (SELECT id FROM lanes WHERE kind IN ('endpoint', 'router', 'poller'));
DELETE FROM leases WHERE lane IN (SELECT id FROM lanes WHERE kind IN ('endpoint', 'router', 'poller'));
DELETE FROM lanes WHERE kind IN ('endpoint', 'router', 'poller');
DROP TYPE log_level;
DROP TYPE attempt_verdict;
DROP TYPE delivery_status;
DROP TYPE hub_message_state;
COMMENT ON COLUMN duties.name IS 'The duty: retention, or jobs.';
COMMENT ON COLUMN lanes.kind IS 'The consumer that runs its items: queue or job.';
DELETE FROM weeks WHERE feature = 'hub';
