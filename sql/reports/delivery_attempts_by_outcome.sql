-- How did the attempts to deliver to each endpoint end?
--
-- delivered: it took the message. failed: it did not, and the delivery is tried again or parked. deferred: it asked to
-- be asked again later. returned: the worker was told to stop meanwhile, and gave it back. lost: the server that asked
-- died, and nobody knows what the endpoint said. status is the HTTP status of the answer, empty when there was none.
--
-- Parameters: report.period, how far to look back (1 hour); report.lookback, how long before that a delivery
-- may have been made to count (7 days). In psql: SET report.period = '6 hours';
--
-- What to do: failed with status 200 means that answers do not name the message_id (is it a plain webhook? then
-- options.ack is lenient). 401 and 403: the token. 406 and 422: parameters. 429 and 503: lower the rate. No
-- status: the network, or a timeout: see longest_ms.
WITH parameter AS (
    SELECT
        now() - period AS since,
        uuid_v7_floor(now() - period - lookback) AS first_id
    FROM coalesce(nullif(current_setting('report.period', true), '')::interval, '1 hour') AS period
    CROSS JOIN coalesce(nullif(current_setting('report.lookback', true), '')::interval, '7 days') AS lookback
)
SELECT
    stores.name AS store,
    endpoints.name AS endpoint,
    a.verdict::text AS outcome,
    a.status_code AS status,
    count(*) AS attempts,
    count(DISTINCT a.id) AS deliveries,
    round((extract(epoch FROM avg(a.duration)) * 1000)::numeric, 1) AS average_ms,
    round((extract(epoch FROM max(a.duration)) * 1000)::numeric, 1) AS longest_ms
FROM delivery_attempts AS a
JOIN endpoints ON endpoints.id = a.endpoint_id
JOIN stores ON stores.id = endpoints.store_id
WHERE a.id >= (SELECT first_id FROM parameter)
    AND a.finished_at >= (SELECT since FROM parameter)
GROUP BY store, endpoint, outcome, status
ORDER BY store, endpoint, outcome, status;
