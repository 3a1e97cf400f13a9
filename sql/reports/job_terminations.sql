-- How did the jobs of each type end?
--
-- unfinished counts the jobs created in the period that have not ended yet, whether a worker has them or not.
--
-- Parameters: report.period, how far to look back (1 day). In psql: SET report.period = '6 hours';
--
-- What to do: process_failures are ours or the workers': the commonest status says which (VBS_TIMEOUT: jobs take
-- longer than their timeout; VBS_ERROR: workers are lost). Many user_data_failures with TIMEOUT_TFA or
-- TIMEOUT_CREDENTIALS mean that people do not see the question in time: see time_to_answer.
WITH parameter AS (
    SELECT now() - coalesce(nullif(current_setting('report.period', true), '')::interval, '1 day') AS since
)
SELECT
    job_types.name AS job_type,
    count(*) FILTER (WHERE jobs.termination_type IS NOT NULL) AS ended,
    count(*) FILTER (WHERE jobs.termination_type = 'BILLABLE') AS billable,
    count(*) FILTER (WHERE jobs.termination_type = 'USER_DATA_FAILURE') AS user_data_failures,
    count(*) FILTER (WHERE jobs.termination_type = 'SITE_INTERACTION_FAILURE') AS site_interaction_failures,
    count(*) FILTER (WHERE jobs.termination_type = 'PROCESS_FAILURE') AS process_failures,
    count(*) FILTER (WHERE jobs.termination_type = 'NEVER_STARTED') AS never_started,
    count(*) FILTER (WHERE jobs.termination_type IS NULL) AS unfinished,
    mode() WITHIN GROUP (ORDER BY CASE WHEN jobs.termination_type <> 'BILLABLE' THEN jobs.status END) AS commonest_failure
FROM jobs
JOIN job_types ON job_types.id = jobs.type_id
WHERE coalesce(jobs.completed_at, jobs.created_at) >= (SELECT since FROM parameter)
GROUP BY job_types.name
ORDER BY job_types.name;
