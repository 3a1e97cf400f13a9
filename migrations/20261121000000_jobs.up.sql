-- Job channels: work done elsewhere, which its owner and others follow, and whose questions its owner answers.
-- A job's messages are one log with a counter in the job's row; its questions are envelopes.

COMMENT ON COLUMN lanes.kind IS 'The consumer that runs its items: queue or job.';
COMMENT ON COLUMN duties.name IS 'The duty: retention, or jobs.';

CREATE TYPE termination_type AS ENUM ('BILLABLE', 'USER_DATA_FAILURE', 'SITE_INTERACTION_FAILURE', 'PROCESS_FAILURE', 'NEVER_STARTED');
COMMENT ON TYPE termination_type IS 'How a job ended.';
CREATE TYPE envelope_status AS ENUM ('PENDING', 'ANSWERED', 'PICKED_UP', 'EXPIRED', 'WITHDRAWN');
COMMENT ON TYPE envelope_status IS 'The words of a question: asked, answered, its answer read by the worker, never answered, not wanted any more.';

CREATE TABLE job_types (
    id         integer     NOT NULL,
    name       text        NOT NULL,
    definition json        NOT NULL,
    version    bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT job_types_pkey PRIMARY KEY (id),
    CONSTRAINT job_types_name_key UNIQUE (name),
    CONSTRAINT job_types_lane_fkey FOREIGN KEY (id) REFERENCES lanes (id),
    CONSTRAINT job_types_name_grammar CHECK (name ~ '^[a-z][a-z0-9_]{0,99}$' AND name NOT IN ('system', 'queue', 'hub', 'job'))
);
CREATE INDEX job_types_version_idx ON job_types (version);
COMMENT ON TABLE job_types IS 'The kinds of jobs. Each has routes of its name at the root of the API. Bounded by: the definition files that were ever loaded.';
COMMENT ON COLUMN job_types.id IS 'The type''s lane.';
COMMENT ON COLUMN job_types.name IS 'Its name in the API.';
COMMENT ON COLUMN job_types.definition IS 'Its rules, as its file says them: timeouts, lease, what happens to the jobs of a lost worker.';
COMMENT ON COLUMN job_types.version IS 'The catalog''s revision at its last change.';
COMMENT ON COLUMN job_types.created_at IS 'When it was first loaded.';

CREATE TABLE jobs (
    id                 bigint GENERATED ALWAYS AS IDENTITY,
    type_id            integer     NOT NULL,
    item               uuid        NOT NULL DEFAULT uuid_v7(),
    owner              text        NOT NULL,
    cardholder_id      bigint      NOT NULL,
    cuid               text,
    has_account        boolean     NOT NULL DEFAULT false,
    merchant_site_id   bigint,
    data               bytea,
    key_id             text,
    status             text        NOT NULL DEFAULT 'REQUESTED',
    percent_complete   smallint    NOT NULL DEFAULT 0,
    status_message     text,
    termination_type   termination_type,
    job_timeout        interval    NOT NULL,
    credential_timeout interval    NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    started_at         timestamptz,
    completed_at       timestamptz,
    deadline           timestamptz,
    answer_by          timestamptz,
    cancel_by          timestamptz,
    due_at             timestamptz GENERATED ALWAYS AS (
        CASE WHEN completed_at IS NULL THEN least(deadline, answer_by, cancel_by) END
    ) STORED,
    lease              uuid,
    ended_by           uuid,
    end_digest         bytea,
    seq                bigint      NOT NULL DEFAULT 0,
    request_id         text,
    trace              bytea,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_item_key UNIQUE (item),
    CONSTRAINT jobs_type_fkey FOREIGN KEY (type_id) REFERENCES job_types (id),
    CONSTRAINT jobs_owner_is_somebody CHECK (owner <> ''),
    CONSTRAINT jobs_site_of_an_account CHECK (merchant_site_id IS NULL OR has_account),
    CONSTRAINT jobs_data_is_sealed CHECK ((data IS NULL) = (key_id IS NULL)),
    CONSTRAINT jobs_data_until_end CHECK (data IS NULL OR completed_at IS NULL),
    CONSTRAINT jobs_status_length CHECK (length(status) BETWEEN 1 AND 100),
    CONSTRAINT jobs_percent_range CHECK (percent_complete BETWEEN 0 AND 100),
    CONSTRAINT jobs_timeouts_positive CHECK (job_timeout > interval '0' AND credential_timeout > interval '0'),
    CONSTRAINT jobs_finished_by_termination CHECK ((termination_type IS NULL) = (completed_at IS NULL)),
    CONSTRAINT jobs_finished_is_whole CHECK (termination_type IS NULL OR percent_complete = 100),
    CONSTRAINT jobs_never_started CHECK ((termination_type = 'NEVER_STARTED') IS NOT TRUE OR started_at IS NULL),
    CONSTRAINT jobs_deadline_from_start CHECK ((started_at IS NULL) = (deadline IS NULL)),
    CONSTRAINT jobs_lease_while_running CHECK (lease IS NULL OR (started_at IS NOT NULL AND completed_at IS NULL)),
    CONSTRAINT jobs_end_of_a_worker CHECK (end_digest IS NULL OR completed_at IS NOT NULL),
    CONSTRAINT jobs_ended_by_a_worker CHECK (ended_by IS NULL OR end_digest IS NOT NULL),
    CONSTRAINT jobs_asks_while_running CHECK (answer_by IS NULL OR (started_at IS NOT NULL AND completed_at IS NULL)),
    CONSTRAINT jobs_cancels_while_running CHECK (cancel_by IS NULL OR (started_at IS NOT NULL AND completed_at IS NULL)),
    CONSTRAINT jobs_trace_is_one CHECK (is_trace(trace))
) WITH (fillfactor = 70);
COMMENT ON TABLE jobs IS 'Long work done elsewhere. A job is finished when and only when it has a termination type. Bounded by: POSTRIDER_JOB_RETENTION after their end.';
COMMENT ON COLUMN jobs.id IS 'The job''s number in the API.';
COMMENT ON COLUMN jobs.type_id IS 'Its type, whose lane it waits in.';
COMMENT ON COLUMN jobs.item IS 'Its name in dispatch and leases.';
COMMENT ON COLUMN jobs.owner IS 'The subject of the token that created it. It alone sees and answers what the job asks.';
COMMENT ON COLUMN jobs.cardholder_id IS 'The person that the job is for.';
COMMENT ON COLUMN jobs.cuid IS 'What its owner calls that person; null when only the number was given.';
COMMENT ON COLUMN jobs.has_account IS 'Whether its owner has named an account, whose credentials lie in job_safes until the job ends.';
COMMENT ON COLUMN jobs.merchant_site_id IS 'The merchant site of that account, if it was named.';
COMMENT ON COLUMN jobs.data IS 'What the worker needs to know, sealed (AES-256-GCM), until the job ends; null when there is nothing.';
COMMENT ON COLUMN jobs.key_id IS 'Which key its data is sealed with.';
COMMENT ON COLUMN jobs.status IS 'The newest status: an open set of words.';
COMMENT ON COLUMN jobs.percent_complete IS 'About how much is done; 100 when finished.';
COMMENT ON COLUMN jobs.status_message IS 'What the worker last said in words.';
COMMENT ON COLUMN jobs.termination_type IS 'How it ended; null until then.';
COMMENT ON COLUMN jobs.job_timeout IS 'How long it may take from the moment a worker takes it; each question adds credential_timeout.';
COMMENT ON COLUMN jobs.credential_timeout IS 'How long a question waits for its answer.';
COMMENT ON COLUMN jobs.created_at IS 'When it was created.';
COMMENT ON COLUMN jobs.started_at IS 'When a worker took it; null again when its worker was lost and it is to run again.';
COMMENT ON COLUMN jobs.completed_at IS 'When it ended.';
COMMENT ON COLUMN jobs.deadline IS 'When it is ended if it still runs.';
COMMENT ON COLUMN jobs.answer_by IS 'The deadline of its pending question, if there is one.';
COMMENT ON COLUMN jobs.cancel_by IS 'When it is ended since its cancellation was requested, unless its worker ends it before.';
COMMENT ON COLUMN jobs.due_at IS 'The first of the three deadlines, while it is not finished.';
COMMENT ON COLUMN jobs.lease IS 'The claim that runs it; null while nobody does, and for a worker that did not claim it.';
COMMENT ON COLUMN jobs.ended_by IS 'The claim whose worker ended it; null when another did, or a worker that did not claim it.';
COMMENT ON COLUMN jobs.end_digest IS 'SHA-256 of what its worker said to end it, so that the same said again is told from another end; null when time, a request to cancel or a lost worker ended it.';
COMMENT ON COLUMN jobs.seq IS 'The number of its newest broadcast. Counted under the row''s lock, so broadcasts become visible in their order.';
COMMENT ON COLUMN jobs.request_id IS 'The x-request-id of the request that created it, so that the line of its failure can name it.';
COMMENT ON COLUMN jobs.trace IS 'The W3C trace context of the request that created it, see is_trace; null when there was none.';
CREATE INDEX jobs_due_at_idx ON jobs (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_completed_at_idx ON jobs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX jobs_cardholder_idx ON jobs (cardholder_id, id);
CREATE INDEX jobs_owner_idx ON jobs (owner, id);

CREATE TABLE job_safes (
    job_id  bigint NOT NULL,
    content bytea  NOT NULL,
    key_id  text   NOT NULL,
    CONSTRAINT job_safes_pkey PRIMARY KEY (job_id),
    CONSTRAINT job_safes_job_fkey FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
COMMENT ON TABLE job_safes IS 'What owners hand over for their jobs'' workers alone, such as credentials. Bounded by: their job: they go when it ends.';
COMMENT ON COLUMN job_safes.job_id IS 'The job.';
COMMENT ON COLUMN job_safes.content IS 'An object of strings, sealed (AES-256-GCM).';
COMMENT ON COLUMN job_safes.key_id IS 'Which key it is sealed with.';

CREATE TABLE cardholders (
    -- Far above the numbers that clients give by themselves.
    id         bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000000001),
    owner      text        NOT NULL,
    cuid       text        NOT NULL,
    used_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cardholders_pkey PRIMARY KEY (id),
    CONSTRAINT cardholders_owner_cuid_key UNIQUE (owner, cuid),
    CONSTRAINT cardholders_owner_is_somebody CHECK (owner <> ''),
    CONSTRAINT cardholders_cuid_length CHECK (length(cuid) BETWEEN 1 AND 255)
);
COMMENT ON TABLE cardholders IS 'The numbers of persons whom the creators of jobs know by names of their own. Bounded by: POSTRIDER_JOB_RETENTION and a day after their last job was created, if they have none any more.';
COMMENT ON COLUMN cardholders.id IS 'The number, as in jobs.cardholder_id.';
COMMENT ON COLUMN cardholders.owner IS 'Whose name it is: another''s cuid is another''s.';
COMMENT ON COLUMN cardholders.cuid IS 'The name.';
COMMENT ON COLUMN cardholders.used_at IS 'When a job was last created for this person, or was last seen to be there.';
CREATE INDEX cardholders_used_at_idx ON cardholders (used_at);

CREATE TABLE sdk_sessions (
    token_hash bytea       NOT NULL,
    integrator text        NOT NULL,
    username   text        NOT NULL,
    key        bytea       NOT NULL,
    key_id     text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sdk_sessions_pkey PRIMARY KEY (token_hash),
    CONSTRAINT sdk_sessions_hash_is_sha256 CHECK (length(token_hash) = 32),
    CONSTRAINT sdk_sessions_username_is_somebody CHECK (username <> '')
) WITH (fillfactor = 80);
COMMENT ON TABLE sdk_sessions IS 'Who has logged in with the vendor''s client. Bounded by: 15 minutes after they were last used.';
COMMENT ON COLUMN sdk_sessions.token_hash IS 'SHA-256 of the session''s token; the token itself is nowhere.';
COMMENT ON COLUMN sdk_sessions.integrator IS 'With whose key they have logged in.';
COMMENT ON COLUMN sdk_sessions.username IS 'Who.';
COMMENT ON COLUMN sdk_sessions.key IS 'The key that signs and encrypts in this session, sealed (AES-256-GCM).';
COMMENT ON COLUMN sdk_sessions.key_id IS 'Which key it is sealed with.';
COMMENT ON COLUMN sdk_sessions.created_at IS 'When they logged in.';
COMMENT ON COLUMN sdk_sessions.used_at IS 'When it was last used, to the minute.';
CREATE INDEX sdk_sessions_used_at_idx ON sdk_sessions (used_at);

CREATE TABLE job_idempotency_keys (
    type_id    integer     NOT NULL,
    owner      text        NOT NULL,
    key        text        NOT NULL,
    digest     bytea       NOT NULL,
    job_ids    bigint[]    NOT NULL DEFAULT '{}',
    answer     json,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT job_idempotency_keys_pkey PRIMARY KEY (type_id, owner, key),
    CONSTRAINT job_idempotency_keys_type_fkey FOREIGN KEY (type_id) REFERENCES job_types (id),
    CONSTRAINT job_idempotency_keys_length CHECK (length(key) BETWEEN 1 AND 255)
);
COMMENT ON TABLE job_idempotency_keys IS 'The keys that requests to create jobs, and to say something about one, came with, for a day. Bounded by: a day.';
COMMENT ON COLUMN job_idempotency_keys.type_id IS 'The type of the jobs.';
COMMENT ON COLUMN job_idempotency_keys.owner IS 'The subject whose request it was: another''s keys are another''s.';
COMMENT ON COLUMN job_idempotency_keys.key IS 'The Idempotency-Key header.';
COMMENT ON COLUMN job_idempotency_keys.digest IS 'SHA-256 of what the request asks for and of what its body says, however its JSON is spelt: the same key with another one is refused.';
COMMENT ON COLUMN job_idempotency_keys.job_ids IS 'The jobs that the first request created, in its order.';
COMMENT ON COLUMN job_idempotency_keys.answer IS 'What the first request about a job was answered; null where it created jobs.';
COMMENT ON COLUMN job_idempotency_keys.created_at IS 'When.';
CREATE INDEX job_idempotency_keys_created_at_idx ON job_idempotency_keys (created_at);

CREATE TABLE broadcasts (
    job_id     bigint      NOT NULL,
    seq        bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    is_final   boolean     NOT NULL DEFAULT false,
    message    json        NOT NULL,
    size       integer     NOT NULL GENERATED ALWAYS AS (octet_length(message::text)) STORED,
    CONSTRAINT broadcasts_pkey PRIMARY KEY (job_id, seq),
    CONSTRAINT broadcasts_job_fkey FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT broadcasts_seq_from_one CHECK (seq > 0)
);
COMMENT ON TABLE broadcasts IS 'What was said about a job: an append-only log for each, without gaps until retention takes its head. Bounded by: POSTRIDER_BROADCAST_RETENTION.';
COMMENT ON COLUMN broadcasts.job_id IS 'The job.';
COMMENT ON COLUMN broadcasts.seq IS 'Its place in the job''s log, from 1.';
COMMENT ON COLUMN broadcasts.created_at IS 'When it was said.';
COMMENT ON COLUMN broadcasts.is_final IS 'Whether it ended the job, so that nothing follows.';
COMMENT ON COLUMN broadcasts.message IS 'The status, as it is sent to those who follow.';
COMMENT ON COLUMN broadcasts.size IS 'How many bytes the message has: a read ends at a number of them, and finds out without fetching what it leaves.';
CREATE INDEX broadcasts_created_at_idx ON broadcasts (created_at);

CREATE TABLE registrations (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    job_id     bigint      NOT NULL,
    subject    text        NOT NULL,
    via        text        NOT NULL DEFAULT 'key',
    key_hash   bytea,
    cursor     bigint      NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT registrations_pkey PRIMARY KEY (id),
    CONSTRAINT registrations_key_hash_key UNIQUE (job_id, key_hash),
    CONSTRAINT registrations_job_fkey FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT registrations_subject_is_somebody CHECK (subject <> ''),
    CONSTRAINT registrations_via_known CHECK (via IN ('key', 'job', 'cardholder')),
    CONSTRAINT registrations_key_hash_if_key CHECK ((via = 'key') = (key_hash IS NOT NULL)),
    CONSTRAINT registrations_key_hash_is_sha256 CHECK (length(key_hash) = 32),
    CONSTRAINT registrations_cursor_not_negative CHECK (cursor >= 0)
) WITH (fillfactor = 70);
COMMENT ON TABLE registrations IS 'Who follows a job, and up to where each has read. Bounded by: POSTRIDER_BROADCAST_RETENTION after the end of their job.';
COMMENT ON COLUMN registrations.id IS 'The registration.';
COMMENT ON COLUMN registrations.job_id IS 'The job it is good for.';
COMMENT ON COLUMN registrations.subject IS 'The subject of the token it was made with: another''s request does not hold with this key.';
COMMENT ON COLUMN registrations.via IS 'key: a registration with an access key. job, cardholder: the place of a subject in the routes that need none.';
COMMENT ON COLUMN registrations.key_hash IS 'SHA-256 of the access key; the key itself is nowhere.';
COMMENT ON COLUMN registrations.cursor IS 'The number of the last broadcast that was handed out.';
COMMENT ON COLUMN registrations.created_at IS 'When it was made.';
CREATE UNIQUE INDEX registrations_one_place_idx ON registrations (job_id, subject, via) WHERE via <> 'key';

CREATE TABLE envelopes (
    id          uuid            NOT NULL DEFAULT gen_random_uuid(),
    job_id      bigint          NOT NULL,
    type        text            NOT NULL,
    content     json            NOT NULL,
    status      envelope_status NOT NULL DEFAULT 'PENDING',
    created_at  timestamptz     NOT NULL DEFAULT now(),
    deadline    timestamptz     NOT NULL,
    answered_at timestamptz,
    answer      bytea,
    key_id      text,
    CONSTRAINT envelopes_pkey PRIMARY KEY (id),
    CONSTRAINT envelopes_job_fkey FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT envelopes_type_length CHECK (length(type) BETWEEN 1 AND 100),
    CONSTRAINT envelopes_answer_until_pick_up CHECK ((status = 'ANSWERED') = (answer IS NOT NULL)),
    CONSTRAINT envelopes_answer_is_sealed CHECK ((answer IS NULL) = (key_id IS NULL)),
    CONSTRAINT envelopes_answered_has_time CHECK (status NOT IN ('ANSWERED', 'PICKED_UP') OR answered_at IS NOT NULL),
    CONSTRAINT envelopes_unanswered_has_none CHECK (status NOT IN ('PENDING', 'EXPIRED') OR answered_at IS NULL)
);
COMMENT ON TABLE envelopes IS 'What jobs asked their owners. Bounded by: their job: they go with it.';
COMMENT ON COLUMN envelopes.id IS 'The guid that the answer must name.';
COMMENT ON COLUMN envelopes.job_id IS 'The job that asks.';
COMMENT ON COLUMN envelopes.type IS 'What it asks for: tfa_request, credential_request, or another word of its worker.';
COMMENT ON COLUMN envelopes.content IS 'What the worker sent with it, such as message and account_link.';
COMMENT ON COLUMN envelopes.status IS 'How far it is.';
COMMENT ON COLUMN envelopes.created_at IS 'When it was asked.';
COMMENT ON COLUMN envelopes.deadline IS 'When it expires.';
COMMENT ON COLUMN envelopes.answered_at IS 'When it was answered.';
COMMENT ON COLUMN envelopes.answer IS 'The answer, sealed (AES-256-GCM), from its arrival until the worker reads it or the job ends.';
COMMENT ON COLUMN envelopes.key_id IS 'Which key it is sealed with.';
CREATE UNIQUE INDEX envelopes_one_pending_a_job_idx ON envelopes (job_id) WHERE status = 'PENDING';
CREATE INDEX envelopes_job_idx ON envelopes (job_id);

CREATE FUNCTION broadcast(job bigint, status jsonb, further text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
AS $$
#variable_conflict use_column
DECLARE
    change   jsonb := CASE jsonb_typeof($2) WHEN 'string' THEN jsonb_build_object('status', $2) ELSE $2 END;
    finishes boolean;
    was      jobs%ROWTYPE;
    now_is   jobs%ROWTYPE;
    said     text;
BEGIN
    IF NOT pg_has_role(sql_caller(), current_user, 'USAGE') THEN
        PERFORM require_grant('job type', (SELECT t.name FROM jobs AS j JOIN job_types AS t ON t.id = j.type_id WHERE j.id = $1));
    END IF;
    IF change IS NULL OR jsonb_typeof(change) <> 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'status must be a string or an object';
    END IF;
    -- Said here and not by the table's constraints, whose words carry the whole row.
    IF jsonb_typeof(change -> 'percent_complete') NOT IN ('number', 'null')
        OR (change ->> 'percent_complete')::numeric NOT BETWEEN 0 AND 100 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'percent_complete must lie between 0 and 100';
    END IF;
    IF NOT (change ->> 'termination_type' = ANY (enum_range(NULL::termination_type)::text[])) THEN
        RAISE invalid_parameter_value USING MESSAGE = format(
            'termination_type must be one of %s', array_to_string(enum_range(NULL::termination_type)::text[], ', '));
    END IF;
    finishes := change ->> 'termination_type' IS NOT NULL;
    IF finishes THEN
        -- The lease before the job, as everybody locks them. Without it the worker's later calls do not count.
        DELETE FROM leases WHERE id = (SELECT j.lease FROM jobs AS j WHERE j.id = $1);
    END IF;
    SELECT * INTO was FROM jobs AS j WHERE j.id = $1 FOR UPDATE;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('there is no job %s', $1);
    END IF;
    IF was.completed_at IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('job %s is finished', $1);
    END IF;
    UPDATE jobs AS j
    SET status = coalesce(change ->> 'status', j.status),
        status_message = coalesce(change ->> 'status_message', j.status_message),
        percent_complete = CASE WHEN finishes THEN 100
            ELSE coalesce(round((change ->> 'percent_complete')::numeric)::smallint, j.percent_complete) END,
        termination_type = (change ->> 'termination_type')::termination_type,
        completed_at = CASE WHEN finishes THEN now() END,
        data = CASE WHEN NOT finishes THEN j.data END,
        key_id = CASE WHEN NOT finishes THEN j.key_id END,
        lease = CASE WHEN NOT finishes THEN j.lease END,
        answer_by = CASE WHEN NOT finishes THEN j.answer_by END,
        cancel_by = CASE WHEN NOT finishes THEN j.cancel_by END,
        seq = j.seq + 1
    WHERE j.id = $1
    RETURNING * INTO now_is;
    IF finishes THEN
        DELETE FROM leases WHERE id = was.lease;
        IF was.has_account THEN
            DELETE FROM job_safes AS s WHERE s.job_id = $1;
        END IF;
        UPDATE envelopes AS e
        SET status = CASE WHEN e.status = 'PENDING' AND e.deadline <= now() THEN 'EXPIRED' ELSE 'WITHDRAWN' END::envelope_status,
            answer = NULL,
            key_id = NULL
        WHERE e.job_id = $1 AND e.status IN ('PENDING', 'ANSWERED');
    END IF;
    said := change - ARRAY['lease', 'id', 'job_id', 'type'] || jsonb_strip_nulls(jsonb_build_object(
        'status', now_is.status,
        'percent_complete', now_is.percent_complete,
        'job_timeout', greatest(0, floor(extract(epoch FROM coalesce(now_is.deadline - now(), now_is.job_timeout))))::bigint,
        'termination_type', now_is.termination_type
    ));
    IF further IS NOT NULL THEN
        -- As they stand: no jsonb holds all that JSON allows.
        said := '{' || further || ', ' || substr(said, 2);
    END IF;
    INSERT INTO broadcasts (job_id, seq, is_final, message) VALUES (now_is.id, now_is.seq, finishes, said::json);
    RETURN now_is.seq;
END $$;
COMMENT ON FUNCTION broadcast(bigint, jsonb, text) IS 'Says something about a job, in the caller''s own transaction, and gives its number in the job''s log: a status as a string, or an object with status, percent_complete, status_message and what else is to be passed on; with termination_type it ends the job. Members that no jsonb can hold come in further, as they stand in a JSON object, without its braces. It locks the job until the transaction ends: call it last.';
CREATE FUNCTION broadcast(job bigint, status text, further text DEFAULT NULL) RETURNS bigint
LANGUAGE sql
RETURN broadcast(job, status::jsonb, further);
COMMENT ON FUNCTION broadcast(bigint, text, text) IS 'As broadcast of jsonb, which the text must be as JSON.';
CREATE FUNCTION broadcast(job bigint, status json, further text DEFAULT NULL) RETURNS bigint
LANGUAGE sql
RETURN broadcast(job, status::jsonb, further);
COMMENT ON FUNCTION broadcast(bigint, json, text) IS 'As broadcast of jsonb.';
-- Whatever the caller's search path is, as for enqueue.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION broadcast(bigint, jsonb, text) SET search_path = %I, pg_temp', current_schema());
END $$;
