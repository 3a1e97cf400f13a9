-- Which endpoints do not take their messages, and what waits for them?
--
-- in_a_row counts attempts that did not reach it. circuit is open while the endpoint is left alone, and half-open while
-- one delivery at a time tries it. failing_services are those that it has and that answer badly or not in time: they
-- are left alone in the same way, and its other services are not. gone_since is set by its answer 410,
-- disabled_since where its failures switched it off (disable). unfinished and parked count its deliveries, whenever they
-- were made.
--
-- Parameters: report.period, how far to look back (1 hour); report.lookback, how long before that a delivery
-- may have been made to count (7 days). In psql: SET report.period = '6 hours';
--
-- What to do: read the attempts of one delivery (GET /stores/{store}/deliveries/{id}/attempts), mend the endpoint or its
-- definition, and check it (POST /stores/{store}/endpoints/{name}/check). What is unfinished goes out by itself;
-- what is parked is sent again by hand (recover). One that is switched off sends what it held once it is put with
-- enabled: true.
WITH parameter AS (
    SELECT
        now() - period AS since,
        uuid_v7_floor(now() - period - lookback) AS first_id
    FROM coalesce(nullif(current_setting('report.period', true), '')::interval, '1 hour') AS period
    CROSS JOIN coalesce(nullif(current_setting('report.lookback', true), '')::interval, '7 days') AS lookback
),
tried AS (
    SELECT
        endpoint_id,
        count(*) AS attempts,
        count(*) FILTER (WHERE verdict = 'failed') AS failed,
        mode() WITHIN GROUP (ORDER BY error) FILTER (WHERE verdict = 'failed') AS commonest_error,
        max(finished_at) FILTER (WHERE verdict = 'failed') AS last_failed_at
    FROM delivery_attempts
    WHERE id >= (SELECT first_id FROM parameter)
        AND finished_at >= (SELECT since FROM parameter)
    GROUP BY endpoint_id
),
waiting AS (
    SELECT
        mappings.endpoint_id,
        count(*) FILTER (WHERE d.status = 'PENDING') AS unfinished,
        count(*) FILTER (WHERE d.parked) AS parked
    FROM (
        SELECT id, mapping_id, status, parked
        FROM unfinished_deliveries
        JOIN deliveries USING (id)
        WHERE status = 'PENDING'
        UNION ALL
        SELECT id, mapping_id, status, parked FROM deliveries WHERE parked AND archived_at IS NULL
    ) AS d
    JOIN mappings ON mappings.id = d.mapping_id
    GROUP BY mappings.endpoint_id
)
SELECT
    stores.name AS store,
    endpoints.name AS endpoint,
    coalesce(tried.attempts, 0) AS attempts,
    coalesce(tried.failed, 0) AS failed,
    round(100.0 * tried.failed / tried.attempts, 1) AS failed_percent,
    circuits.failures AS in_a_row,
    CASE
        WHEN circuits.open_until > now() THEN 'open'
        WHEN circuits.open_until IS NOT NULL THEN 'half-open'
        ELSE 'closed'
    END AS circuit,
    services.failing AS failing_services,
    circuits.gone_at AS gone_since,
    endpoints.disabled_at AS disabled_since,
    coalesce(waiting.unfinished, 0) AS unfinished,
    coalesce(waiting.parked, 0) AS parked,
    left(tried.commonest_error, 200) AS commonest_error,
    tried.last_failed_at
FROM endpoints
JOIN stores ON stores.id = endpoints.store_id
JOIN circuits ON circuits.lane = endpoints.id
LEFT JOIN tried ON tried.endpoint_id = endpoints.id
LEFT JOIN waiting ON waiting.endpoint_id = endpoints.id
LEFT JOIN (
    SELECT lane, string_agg(coalesce(nullif(part, ''), '(the URL itself)'), ', ' ORDER BY part) AS failing FROM circuit_parts GROUP BY lane
) AS services ON services.lane = endpoints.id
WHERE tried.failed > 0 OR circuits.open_until IS NOT NULL OR circuits.gone_at IS NOT NULL OR services.failing IS NOT NULL
    OR endpoints.disabled_at IS NOT NULL
ORDER BY failed_percent DESC NULLS LAST, failed DESC, store, endpoint;
