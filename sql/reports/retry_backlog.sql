-- What of the hub is not delivered yet, since when, and what does it wait for?
--
-- For each mapping with unfinished deliveries: fresh are those without an attempt, retrying those that have failed
-- at least once, held those of a mapping that is switched off, in_line those that wait for the one before
-- them. The rest is fresh or retrying and runs as soon as the endpoint has room. oldest_seconds is the age of the
-- oldest delivery, most_attempts the most that one has had.
--
-- Parameters: none.
--
-- What to do: many retrying: see failing_endpoints. Many in_line behind a delivery that keeps failing: park or
-- mend that one, or make the line finer (options.serial by a path). Many fresh and none retrying: the endpoint
-- is slower than what comes in. Held: switch the mapping on.
SELECT
    stores.name AS store,
    mappings.name AS mapping,
    endpoints.name AS endpoint,
    count(*) AS unfinished,
    count(*) FILTER (WHERE d.attempts = 0) AS fresh,
    count(*) FILTER (WHERE d.attempts > 0) AS retrying,
    count(held.delivery_id) AS held,
    count(line_waits.item) AS in_line,
    max(d.attempts) AS most_attempts,
    round(extract(epoch FROM now() - min(uuid_v7_time(d.id)))::numeric, 1) AS oldest_seconds,
    min(d.next_attempt_at) AS next_attempt_at,
    left(mode() WITHIN GROUP (ORDER BY d.last_error), 200) AS commonest_error
FROM unfinished_deliveries
JOIN deliveries AS d ON d.id = unfinished_deliveries.id
JOIN mappings ON mappings.id = d.mapping_id
JOIN stores ON stores.id = mappings.store_id
LEFT JOIN endpoints ON endpoints.id = mappings.endpoint_id
LEFT JOIN held_deliveries AS held ON held.delivery_id = d.id
LEFT JOIN line_waits ON line_waits.item = d.id
WHERE d.status = 'PENDING'
GROUP BY stores.name, mappings.name, endpoints.name
ORDER BY oldest_seconds DESC, store, mapping;
