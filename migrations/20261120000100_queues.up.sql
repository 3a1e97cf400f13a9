-- Queues: definitions, messages, how each attempt ended.
-- Messages and outcomes are only ever inserted; what a message's status is, the view says.

CREATE TYPE message_status AS ENUM ('PENDING', 'INPROGRESS', 'COMPLETE', 'ERROR');
COMMENT ON TYPE message_status IS 'The four words of a message.';

CREATE TYPE attempt_ending AS ENUM (
    'completed', 'rejected', 'failed', 'retried', 'snoozed', 'not_started', 'given_back', 'lost', 'refused'
);
COMMENT ON TYPE attempt_ending IS 'How an attempt came to its end. One that never began, was put off or was given back does not count: the next has the same number. Said by its handler or worker: completed, rejected (or it took too long), failed (no other try), retried (another try asked for), snoozed (put off, another try asked for without a count), not_started (it never began). Said by others: given_back (its worker was told to stop), lost (the reclaim wrote it, since the worker was lost), refused (the database would not take what was said).';

CREATE TABLE queues (
    id         integer     NOT NULL,
    name       text        NOT NULL,
    definition json        NOT NULL,
    uniqueness jsonb,
    secret     bytea,
    key_id     text,
    version    bigint      NOT NULL,
    source     text        NOT NULL DEFAULT 'api',
    paused_at  timestamptz,
    paused_by  text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT queues_pkey PRIMARY KEY (id),
    CONSTRAINT queues_name_key UNIQUE (name),
    CONSTRAINT queues_lane_fkey FOREIGN KEY (id) REFERENCES lanes (id),
    CONSTRAINT queues_name_grammar CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'
        AND name NOT IN ('system', 'queue', 'hub', 'job') AND name !~ '_hub$'),
    CONSTRAINT queues_sealed_with_a_key CHECK ((secret IS NULL) = (key_id IS NULL)),
    CONSTRAINT queues_source_known CHECK (source IN ('api', 'file', 'code', 'example'))
);
CREATE INDEX queues_version_idx ON queues (version);
COMMENT ON TABLE queues IS 'Queue definitions. Bounded by: what administrators define; a row goes with its queue.';
COMMENT ON COLUMN queues.id IS 'The queue''s lane. A queue that is deleted and made again has another, so old messages do not come back.';
COMMENT ON COLUMN queues.name IS 'Its name in the API; system and queue are refused, since their writer roles would be global ones.';
COMMENT ON COLUMN queues.definition IS 'The definition as it was put, without its handler''s secret: client_id, roles, incoming, handler, options.';
COMMENT ON COLUMN queues.uniqueness IS 'What options.unique says: key (a JSON pointer, body or key; absent, only pushes that give a value have one), while (waiting, unfinished or a number of seconds) and conflict (existing, replace or reject); null without.';
COMMENT ON COLUMN queues.secret IS 'The signing secret of its http handler, sealed (AES-256-GCM); null without one.';
COMMENT ON COLUMN queues.key_id IS 'Which key it is sealed with.';
COMMENT ON COLUMN queues.version IS 'The catalog''s revision at its last change.';
COMMENT ON COLUMN queues.source IS 'Who wrote it: api, file (a pair in the queues directory) or example.';
COMMENT ON COLUMN queues.paused_at IS 'Since when nothing is claimed from it; null while it runs.';
COMMENT ON COLUMN queues.paused_by IS 'Who paused it over HTTP, the subject of the token; null when that had none. It says nothing while the queue runs.';
COMMENT ON COLUMN queues.created_at IS 'When it was first defined.';
COMMENT ON COLUMN queues.updated_at IS 'When it was last defined, paused or resumed.';

CREATE TABLE queue_schedules (
    id         integer GENERATED ALWAYS AS IDENTITY,
    queue_id   integer     NOT NULL,
    name       text        NOT NULL,
    definition json        NOT NULL,
    message    json        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT queue_schedules_pkey PRIMARY KEY (id),
    CONSTRAINT queue_schedules_name_key UNIQUE (queue_id, name),
    CONSTRAINT queue_schedules_queue_fkey FOREIGN KEY (queue_id) REFERENCES queues (id),
    CONSTRAINT queue_schedules_name_grammar CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$')
);
COMMENT ON TABLE queue_schedules IS 'Schedules of queues: which message is pushed when. Bounded by: what administrators define, a thousand a queue; they go with their queue.';
COMMENT ON COLUMN queue_schedules.id IS 'The schedule: its owner in schedules and ticks, of the kind queue. It never comes back.';
COMMENT ON COLUMN queue_schedules.queue_id IS 'Its queue.';
COMMENT ON COLUMN queue_schedules.name IS 'Its name in the API.';
COMMENT ON COLUMN queue_schedules.definition IS 'The schedule as it was put.';
COMMENT ON COLUMN queue_schedules.message IS 'The message of the definition, byte for byte, which each firing pushes.';
COMMENT ON COLUMN queue_schedules.created_at IS 'When it was first put.';
COMMENT ON COLUMN queue_schedules.updated_at IS 'When it was last put.';

CREATE TABLE messages (
    queue_id    integer  NOT NULL,
    rank        smallint NOT NULL DEFAULT 0,
    validated   boolean  NOT NULL DEFAULT false,
    id          uuid     NOT NULL,
    request_id  text,
    trace       bytea,
    key         text,
    replaced_by uuid,
    request     json     NOT NULL,
    CONSTRAINT messages_pkey PRIMARY KEY (queue_id, id),
    CONSTRAINT messages_trace_is_one CHECK (is_trace(trace))
) PARTITION BY RANGE (id);
CREATE INDEX messages_key_idx ON messages (queue_id, key, id) WHERE key IS NOT NULL;
COMMENT ON TABLE messages IS 'What was pushed, as it was sent. A row changes only when another push replaces it (unique), or it is run again by hand after that. Weekly partitions by the time inside the id. Bounded by: retention: weeks are dropped, what had to stay is deleted once its end is as old.';
COMMENT ON COLUMN messages.queue_id IS 'The queue.';
COMMENT ON COLUMN messages.rank IS 'The negated priority, for a retry by hand.';
COMMENT ON COLUMN messages.validated IS 'Held against the schema when it was pushed. What SQL enqueues is held against it before it runs.';
COMMENT ON COLUMN messages.id IS 'UUIDv7: its time is when the message was pushed.';
COMMENT ON COLUMN messages.request_id IS 'The x-request-id of the request that it comes of, over whichever handlers, so that the line of its failure can name it; null, and without a byte, when it comes of none.';
COMMENT ON COLUMN messages.trace IS 'The W3C trace context of what pushed it, see is_trace; null, and without a byte, when there was none.';
COMMENT ON COLUMN messages.key IS 'Its own key, which whoever pushed it gave it: 1 to 255 characters; null, and without a byte, when none was given. Several may have the same.';
COMMENT ON COLUMN messages.replaced_by IS 'The message that took its value from it after it was claimed, where the queue replaces: no attempt of it begins any more, unless that one is deleted. Null, and without a byte, otherwise.';
COMMENT ON COLUMN messages.request IS 'The body, byte for byte.';
CREATE TABLE messages_default PARTITION OF messages DEFAULT;

CREATE TABLE outcomes (
    queue_id    integer        NOT NULL,
    attempt     smallint       NOT NULL,
    id          uuid           NOT NULL,
    lease       uuid           NOT NULL,
    started_at  timestamptz    NOT NULL,
    finished_at timestamptz    NOT NULL DEFAULT now(),
    status      message_status NOT NULL,
    ending      attempt_ending NOT NULL,
    late        boolean,
    worker      text,
    result      json,
    error       json,
    logs        json,
    CONSTRAINT outcomes_pkey PRIMARY KEY (queue_id, id),
    CONSTRAINT outcomes_terminal CHECK (status IN ('COMPLETE', 'ERROR')),
    CONSTRAINT outcomes_complete_if_completed CHECK ((status = 'COMPLETE') = (ending = 'completed')),
    CONSTRAINT outcomes_result_if_complete CHECK ((status = 'COMPLETE') = (result IS NOT NULL)),
    CONSTRAINT outcomes_error_if_error CHECK ((status = 'ERROR') = (error IS NOT NULL))
) PARTITION BY RANGE (id);
COMMENT ON TABLE outcomes IS 'How a message ended: at most one row a message. Partitioned as messages, and dropped with them. Bounded by: retention, with the messages.';
COMMENT ON COLUMN outcomes.queue_id IS 'The queue.';
COMMENT ON COLUMN outcomes.attempt IS 'The attempt that ended it.';
COMMENT ON COLUMN outcomes.id IS 'The message.';
COMMENT ON COLUMN outcomes.lease IS 'The claim that ended it.';
COMMENT ON COLUMN outcomes.started_at IS 'When that attempt was claimed.';
COMMENT ON COLUMN outcomes.finished_at IS 'When its end was written.';
COMMENT ON COLUMN outcomes.status IS 'COMPLETE or ERROR.';
COMMENT ON COLUMN outcomes.ending IS 'How that attempt came to its end, and so who wrote this row: the lease alone does not tell, since a reclaim writes under it too.';
COMMENT ON COLUMN outcomes.late IS 'True when it ended a day or more after it was pushed, otherwise null: what may have to stay when its week goes.';
COMMENT ON COLUMN outcomes.worker IS 'Who ran it.';
COMMENT ON COLUMN outcomes.result IS 'What the handler resolved with; only if COMPLETE (JSON null when it gave nothing).';
COMMENT ON COLUMN outcomes.error IS 'What the handler rejected with; only if ERROR.';
COMMENT ON COLUMN outcomes.logs IS 'What the handler logged in that attempt.';
CREATE TABLE outcomes_default PARTITION OF outcomes DEFAULT;
CREATE INDEX outcomes_error_idx ON outcomes (queue_id, id) WHERE status = 'ERROR';
CREATE INDEX outcomes_late_idx ON outcomes (finished_at) WHERE late;

CREATE TABLE attempts (
    queue_id    integer     NOT NULL,
    attempt     smallint    NOT NULL,
    id          uuid        NOT NULL,
    lease       uuid        NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT now(),
    ending      attempt_ending NOT NULL,
    worker      text,
    error       json        NOT NULL,
    logs        json,
    CONSTRAINT attempts_pkey PRIMARY KEY (queue_id, id, lease),
    CONSTRAINT attempts_not_completed CHECK (ending <> 'completed')
) PARTITION BY RANGE (id);
COMMENT ON TABLE attempts IS 'Attempts that did not end their message: what was retried, reclaimed or run again by hand. Bounded by: retention, with the messages.';
COMMENT ON COLUMN attempts.queue_id IS 'The queue.';
COMMENT ON COLUMN attempts.attempt IS 'The number of the attempt, counted from 1 (again from 1 after a retry by hand).';
COMMENT ON COLUMN attempts.id IS 'The message.';
COMMENT ON COLUMN attempts.lease IS 'The claim that ran it; with the message it names the attempt for ever.';
COMMENT ON COLUMN attempts.started_at IS 'When it was claimed.';
COMMENT ON COLUMN attempts.finished_at IS 'When its end was written.';
COMMENT ON COLUMN attempts.ending IS 'How it came to its end, as in outcomes.';
COMMENT ON COLUMN attempts.worker IS 'Who ran it.';
COMMENT ON COLUMN attempts.error IS 'Why it failed.';
COMMENT ON COLUMN attempts.logs IS 'What the handler logged.';
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

-- Only the default partitions are walked by the id alone.
CREATE INDEX messages_default_walk_idx ON messages_default (id);
CREATE INDEX outcomes_default_walk_idx ON outcomes_default (id);
CREATE INDEX attempts_default_walk_idx ON attempts_default (id);

SELECT make_week('queues', ARRAY['outcomes', 'attempts', 'messages'], monday, monday + interval '7 days')
FROM generate_series(
    date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', now() + interval '14 days', interval '7 days') AS monday;

CREATE TABLE idempotency_keys (
    queue_id   integer     NOT NULL,
    key        text        NOT NULL,
    digest     bytea,
    message_id uuid        NOT NULL,
    answer     json,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (queue_id, key),
    CONSTRAINT idempotency_keys_length CHECK (length(key) BETWEEN 1 AND 255)
);
COMMENT ON TABLE idempotency_keys IS 'The keys that pushes came with. A key outlives no message: both go when retention is over. Bounded by: retention: forgotten at the age at which messages go.';
COMMENT ON COLUMN idempotency_keys.queue_id IS 'The queue.';
COMMENT ON COLUMN idempotency_keys.key IS 'The Idempotency-Key header.';
COMMENT ON COLUMN idempotency_keys.digest IS 'SHA-256 of what the request says, however its JSON is spelt: the same key with another body is refused. Null for what SQL enqueued into a queue without uniqueness, where the message itself is compared.';
COMMENT ON COLUMN idempotency_keys.message_id IS 'The message the first push made; of a batch the first.';
COMMENT ON COLUMN idempotency_keys.answer IS 'What a batch was answered, to be answered again; null for a single push.';
COMMENT ON COLUMN idempotency_keys.created_at IS 'When.';
CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at);

CREATE FUNCTION claim_idempotency_keys(
    queues   integer[],
    keys     text[],
    digests  bytea[],
    messages uuid[],
    answers  text[],
    patience interval,
    OUT taken uuid[],
    OUT held  uuid[]
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    former text := current_setting('lock_timeout');
    input  record;
BEGIN
    taken := '{}';
    held := '{}';
    PERFORM set_config('lock_timeout', extract(epoch FROM patience) * 1000 || 'ms', true);
    FOR input IN
        SELECT i.queue_id, i.key, i.digest, i.message_id, i.answer
        FROM unnest(queues, keys, digests, messages, answers) AS i (queue_id, key, digest, message_id, answer)
        WHERE EXISTS (SELECT FROM queues AS q WHERE q.id = i.queue_id)
        ORDER BY i.queue_id, i.key
    LOOP
        BEGIN
            INSERT INTO idempotency_keys (queue_id, key, digest, message_id, answer)
            VALUES (input.queue_id, input.key, input.digest, input.message_id, input.answer::json)
            ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING;
            IF FOUND THEN
                taken := taken || input.message_id;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            held := held || input.message_id;
        END;
    END LOOP;
    PERFORM set_config('lock_timeout', former, true);
END $$;
COMMENT ON FUNCTION claim_idempotency_keys(integer[], text[], bytea[], uuid[], text[], interval) IS 'Claims keys one by one, and waits for none of them longer than patience: those that a transaction which has not ended uses are told apart, by the messages they came with.';

CREATE FUNCTION tellable_json(value json) RETURNS json
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE
        WHEN value::text ~ '\\u(0000|[dD][89a-fA-F])' THEN (
            SELECT string_agg(
                CASE
                    WHEN t.token[1] ~ '^\\u(0000|[dD][89a-fA-F]..)$' THEN chr(1114111) || lower(substr(t.token[1], 3))
                    ELSE t.token[1]
                END,
                '' ORDER BY t.place
            )::json
            FROM regexp_matches(
                value::text,
                '\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]+',
                'g'
            ) WITH ORDINALITY AS t (token, place)
        )
        ELSE value
    END
$$;
COMMENT ON FUNCTION tellable_json(json) IS 'The same JSON, with U+10FFFF and four digits in the place of every escape that no text of PostgreSQL can hold: U+0000 and lone halves of surrogate pairs. What was told apart stays so.';

CREATE FUNCTION canonical_part(value json) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN CASE json_typeof(value)
        WHEN 'object' THEN '{' || coalesce((
            SELECT string_agg(m.key || ':' || canonical_part(m.value), ',' ORDER BY m.key COLLATE "C", m.place)
            FROM (
                SELECT replace(to_json(o.key)::text, chr(1114111), '\u') AS key, o.value, o.place
                FROM json_each(value) WITH ORDINALITY AS o (key, value, place)
            ) AS m
        ), '') || '}'
        WHEN 'array' THEN '[' || coalesce((
            SELECT string_agg(canonical_part(e.value), ',' ORDER BY e.place)
            FROM json_array_elements(value) WITH ORDINALITY AS e (value, place)
        ), '') || ']'
        WHEN 'string' THEN replace(to_json(value #>> '{}')::text, chr(1114111), '\u')
        ELSE btrim(value::text, E' \t\r\n')
    END;
END $$;
COMMENT ON FUNCTION canonical_part(json) IS 'What canonical_json says of JSON that tellable_json gave.';

CREATE FUNCTION canonical_json(value json) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN canonical_part(tellable_json(value));
END $$;
COMMENT ON FUNCTION canonical_json(json) IS 'What a JSON text says, however it is spelt: white space, the order of members and the escapes in strings do not count; a number counts as it is written. http::canonical writes the same text.';

CREATE FUNCTION is_same_json(one json, other json) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN one::text = other::text OR canonical_json(one) = canonical_json(other);
END $$;
COMMENT ON FUNCTION is_same_json(json, json) IS 'Whether two JSON texts say the same.';

CREATE FUNCTION json_digest(scope text, value json) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    RETURN sha256(convert_to(scope, 'UTF8') || '\x00'::bytea || convert_to(canonical_json(value), 'UTF8'));
END $$;
COMMENT ON FUNCTION json_digest(text, json) IS 'SHA-256 of what a JSON text says, and of what it is for. http::canonical has the same.';

CREATE FUNCTION json_at(value json, pointer text) RETURNS json
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    token text;
    at    json := value;
BEGIN
    FOREACH token IN ARRAY (string_to_array(pointer, '/'))[2:] LOOP
        token := replace(replace(token, '~1', '/'), '~0', '~');
        at := CASE json_typeof(at)
            WHEN 'object' THEN at -> token
            WHEN 'array' THEN CASE WHEN token ~ '^(0|[1-9][0-9]{0,8})$' THEN at -> token::integer END
        END;
    END LOOP;
    RETURN at;
END $$;
COMMENT ON FUNCTION json_at(json, text) IS 'What a JSON pointer (RFC 6901) finds; null when nothing is there. Of duplicate keys the last counts.';

CREATE TABLE unique_holders (
    queue_id   integer     NOT NULL,
    digest     bytea       NOT NULL,
    message_id uuid        NOT NULL,
    since      timestamptz NOT NULL,
    look_at    timestamptz NOT NULL,
    CONSTRAINT unique_holders_pkey PRIMARY KEY (queue_id, digest),
    CONSTRAINT unique_holders_digest_length CHECK (octet_length(digest) = 32)
);
CREATE INDEX unique_holders_look_at_idx ON unique_holders (look_at);
COMMENT ON TABLE unique_holders IS 'Which message holds, or held, a value that is unique in its queue. Whether it still does is judged when another push has the same value, by what has become of the message: claims and ends know nothing of it. Bounded by: what holds a value; what does not any more is deleted within a day.';
COMMENT ON COLUMN unique_holders.queue_id IS 'The queue.';
COMMENT ON COLUMN unique_holders.digest IS 'SHA-256 of the value, and of where it is found: a definition that looks elsewhere begins anew.';
COMMENT ON COLUMN unique_holders.message_id IS 'The message.';
COMMENT ON COLUMN unique_holders.since IS 'When it took the value, or was last replaced.';
COMMENT ON COLUMN unique_holders.look_at IS 'When the upkeep looks next whether it still holds it.';

CREATE FUNCTION unique_digest(by text, request json, own_key text, given text) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    value json := CASE
        WHEN given IS NOT NULL THEN to_json(given)
        WHEN by = 'key' THEN to_json(own_key)
        WHEN by = 'body' THEN request
        WHEN by IS NOT NULL THEN json_at(tellable_json(request), by)
    END;
BEGIN
    IF json_typeof(value) <> 'null' THEN
        RETURN json_digest(coalesce(by, ''), value);
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION unique_digest(text, json, text, text) IS 'What stands for the value of a message that is unique by this (a pointer, body, key, or null for values that are given alone); null when it has none, and so is not unique.';

CREATE FUNCTION find_waiting(message uuid, how text) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    -- It may be moved just now, from one to the other: what is missed in both is looked for once more.
    FOR look IN 1 .. 2 LOOP
        CASE how
            WHEN 'take' THEN PERFORM FROM scheduled AS s WHERE s.item = message AND s.traceable FOR UPDATE;
            WHEN 'hold' THEN PERFORM FROM scheduled AS s WHERE s.item = message AND s.traceable FOR KEY SHARE;
            ELSE PERFORM FROM scheduled AS s WHERE s.item = message AND s.traceable;
        END CASE;
        IF FOUND THEN
            RETURN true;
        END IF;
        CASE how
            WHEN 'take' THEN PERFORM FROM dispatch AS d WHERE d.item = message AND d.traceable FOR UPDATE;
            WHEN 'hold' THEN PERFORM FROM dispatch AS d WHERE d.item = message AND d.traceable FOR KEY SHARE;
            ELSE PERFORM FROM dispatch AS d WHERE d.item = message AND d.traceable;
        END CASE;
        IF FOUND THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;
COMMENT ON FUNCTION find_waiting(uuid, text) IS 'Whether a message that holds a value waits, and no attempt of it counts. How: look; hold, so that no claim takes it before the transaction ends (claims skip what is locked); or take, so that nobody else does anything with it.';

CREATE FUNCTION holds_value(lane integer, message uuid, since timestamptz, rule jsonb, how text) RETURNS boolean
-- Whatever was known of the tables when this was planned, each message is found by an index.
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_variable
BEGIN
    -- Statement by statement: what ends meanwhile may be seen to end.
    IF NOT EXISTS (SELECT FROM messages AS m WHERE m.queue_id = lane AND m.id = message) THEN
        RETURN false;
    END IF;
    RETURN CASE
        WHEN jsonb_typeof(rule -> 'while') = 'number' THEN
            since + make_interval(secs => (rule ->> 'while')::float8) > clock_timestamp()
        WHEN rule ->> 'while' = 'waiting' THEN find_waiting(message, how)
        ELSE NOT EXISTS (SELECT FROM outcomes AS o WHERE o.queue_id = lane AND o.id = message)
    END;
END $$;
COMMENT ON FUNCTION holds_value(integer, uuid, timestamptz, jsonb, text) IS 'Whether a message still holds the value that it took then, by what queues.uniqueness says now. A deleted one holds nothing. How: see find_waiting.';

CREATE FUNCTION require_news(lane integer, message uuid, rule jsonb) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('repeatable read', 'serializable') THEN
        RETURN;
    END IF;
    -- What a snapshot does not show, a conflict with it does. Nothing of this stays, and nobody waits for it.
    BEGIN
        PERFORM FROM messages AS m WHERE m.queue_id = lane AND m.id = message FOR KEY SHARE;
        IF rule ->> 'while' = 'unfinished' THEN
            INSERT INTO outcomes (queue_id, attempt, id, lease, started_at, status, ending, result)
            VALUES (lane, 0, message, gen_random_uuid(), now(), 'COMPLETE', 'completed', 'null')
            ON CONFLICT ON CONSTRAINT outcomes_pkey DO NOTHING;
        END IF;
        RAISE SQLSTATE 'PRNEW';
    EXCEPTION
        WHEN SQLSTATE 'PRNEW' THEN
            RETURN;
        WHEN serialization_failure THEN
            RAISE serialization_failure USING
                MESSAGE = format('message %s, which held this value, has ended or was deleted since this transaction began', message),
                HINT = 'Try the transaction again.';
    END;
END $$;
COMMENT ON FUNCTION require_news(integer, uuid, jsonb) IS 'Fails (40001) in a transaction that sees one moment where a message that holds a value by what that shows has ended or was deleted since.';

CREATE FUNCTION take_value(
    lane    integer,
    digest  bytea,
    message uuid,
    rule    jsonb,
    how     text,
    OUT verdict text,
    OUT holder  uuid
)
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    replaces boolean  := rule ->> 'conflict' = 'replace';
    lasts    interval := CASE WHEN jsonb_typeof(rule -> 'while') = 'number' THEN make_interval(secs => (rule ->> 'while')::float8) END;
    look_at  timestamptz := clock_timestamp() + least(coalesce(lasts, interval '10 minutes'), interval '1 day');
    found_at timestamptz;
BEGIN
    LOOP
        IF replaces THEN
            -- One after the other: each finds the message where the one before has put it.
            SELECT h.message_id, h.since INTO holder, found_at
            FROM unique_holders AS h WHERE h.queue_id = lane AND h.digest = digest
            FOR UPDATE;
        ELSE
            SELECT h.message_id, h.since INTO holder, found_at
            FROM unique_holders AS h WHERE h.queue_id = lane AND h.digest = digest;
        END IF;
        IF NOT FOUND THEN
            -- Waits for whoever is taking it.
            INSERT INTO unique_holders (queue_id, digest, message_id, since, look_at)
            VALUES (lane, digest, message, clock_timestamp(), look_at)
            ON CONFLICT ON CONSTRAINT unique_holders_pkey DO NOTHING;
            CONTINUE WHEN NOT FOUND;
            verdict := 'stored';
            holder := message;
            RETURN;
        END IF;
        IF replaces THEN
            -- The message first, as whoever deletes it.
            PERFORM FROM messages AS m WHERE m.queue_id = lane AND m.id = holder FOR NO KEY UPDATE;
            IF FOUND AND (lasts IS NULL OR found_at + lasts > clock_timestamp()) AND find_waiting(holder, 'take') THEN
                UPDATE unique_holders AS h SET since = clock_timestamp(), look_at = look_at
                WHERE h.queue_id = lane AND h.digest = digest;
                verdict := 'replaced';
                RETURN;
            END IF;
        ELSIF holds_value(lane, holder, found_at, rule, how) THEN
            IF how = 'hold' THEN
                PERFORM require_news(lane, holder, rule);
            END IF;
            verdict := CASE rule ->> 'conflict' WHEN 'reject' THEN 'rejected' ELSE 'existing' END;
            RETURN;
        END IF;
        -- Nobody else may have taken it since.
        UPDATE unique_holders AS h SET message_id = message, since = clock_timestamp(), look_at = look_at
        WHERE h.queue_id = lane AND h.digest = digest AND h.message_id = holder AND h.since = found_at;
        IF FOUND THEN
            -- What was claimed may come back: it would bring what is replaced behind what replaces it.
            IF replaces AND (lasts IS NULL OR found_at + lasts > clock_timestamp()) THEN
                UPDATE messages AS m SET replaced_by = message
                WHERE m.queue_id = lane AND m.id = holder
                    AND NOT EXISTS (SELECT FROM outcomes AS o WHERE o.queue_id = lane AND o.id = holder);
            END IF;
            verdict := 'stored';
            holder := message;
            RETURN;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION take_value(integer, bytea, uuid, jsonb, text) IS 'Has a message that is about to be stored take a value, or says which message holds it: stored (take it), existing, replaced (it waits, and is locked) or rejected. How: see find_waiting.';

CREATE FUNCTION push_identified(
    lanes       integer[],
    ids         uuid[],
    requests    json[],
    ranks       smallint[],
    dues        timestamptz[],
    request_ids text[],
    own_keys    text[],
    given       text[],
    digests_by  text[],
    digests     bytea[],
    validated   boolean,
    how         text,
    apart       boolean,
    traces      bytea[],
    OUT verdicts text[],
    OUT holders  uuid[]
)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_variable
DECLARE
    input     record;
    -- What became of the one before.
    lane      integer;
    digest    bytea;
    verdict   text;
    holder    uuid;
    is_unique boolean[] := array_fill(false, ARRAY[cardinality(ids)]);
BEGIN
    holders := ids;
    verdicts := ARRAY(
        SELECT CASE WHEN q.id IS NULL THEN 'missing' ELSE 'stored' END
        FROM unnest(lanes) WITH ORDINALITY AS i (lane, place)
        LEFT JOIN queues AS q ON q.id = i.lane
        ORDER BY i.place
    );
    -- In the order of the values, so that two of these cannot wait for each other.
    FOR input IN
        SELECT i.place::integer AS place, i.lane, i.id, q.uniqueness AS rule, v.digest
        FROM unnest(lanes, ids, requests, own_keys, given, digests_by, digests) WITH ORDINALITY
            AS i (lane, id, request, own_key, given, digest_by, digest, place)
        JOIN queues AS q ON q.id = i.lane
        CROSS JOIN LATERAL (
            SELECT CASE
                -- Whoever pushes may have worked it out, if by this very definition.
                WHEN i.digest_by = coalesce(q.uniqueness ->> 'key', '') THEN i.digest
                ELSE unique_digest(q.uniqueness ->> 'key', i.request, i.own_key, i.given)
            END AS digest
        ) AS v
        WHERE q.uniqueness IS NOT NULL AND v.digest IS NOT NULL
        ORDER BY i.lane, v.digest, i.place
    LOOP
        is_unique[input.place] := true;
        IF lane = input.lane AND digest = input.digest AND verdict = 'held' THEN
            verdicts[input.place] := verdict;
            CONTINUE;
        -- What one of these has just taken is not stored yet.
        ELSIF lane = input.lane AND digest = input.digest AND verdict IN ('stored', 'replaced') THEN
            verdicts[input.place] := CASE input.rule ->> 'conflict'
                WHEN 'replace' THEN 'replaced' WHEN 'reject' THEN 'rejected' ELSE 'existing'
            END;
        ELSE
            IF apart THEN
                BEGIN
                    SELECT t.verdict, t.holder INTO verdict, holder
                    FROM take_value(input.lane, input.digest, input.id, input.rule, how) AS t;
                EXCEPTION WHEN lock_not_available THEN
                    verdict := 'held';
                    holder := input.id;
                END;
            ELSE
                SELECT t.verdict, t.holder INTO verdict, holder
                FROM take_value(input.lane, input.digest, input.id, input.rule, how) AS t;
            END IF;
            lane := input.lane;
            digest := input.digest;
            verdicts[input.place] := verdict;
        END IF;
        holders[input.place] := holder;
    END LOOP;
    -- Of several that come to one message, the last says what is in it.
    FOR input IN
        WITH last AS (
            SELECT DISTINCT ON (w.holder) w.holder, w.lane, w.rank, w.due, w.request_id, w.trace, w.own_key, w.request
            FROM unnest(holders, verdicts, lanes, ranks, dues, request_ids, traces, own_keys, requests) WITH ORDINALITY
                AS w (holder, verdict, lane, rank, due, request_id, trace, own_key, request, place)
            WHERE w.verdict = 'replaced' AND NOT w.holder = ANY (ids)
            ORDER BY w.holder, w.place DESC
        )
        SELECT last.*, coalesce(last.due IS NULL AND d.rank = last.rank, false) AS keeps_place
        FROM last
        LEFT JOIN LATERAL (
            SELECT rank FROM dispatch WHERE item = last.holder AND traceable LIMIT 1
        ) AS d ON true
    LOOP
        UPDATE messages AS m
        SET rank = input.rank, validated = validated, request_id = input.request_id, trace = input.trace, key = input.own_key,
            request = input.request
        WHERE m.queue_id = input.lane AND m.id = input.holder;
        CONTINUE WHEN input.keeps_place;
        DELETE FROM scheduled AS s WHERE s.item = input.holder AND s.traceable;
        DELETE FROM dispatch AS d WHERE d.item = input.holder AND d.traceable;
        IF input.due IS NULL THEN
            INSERT INTO dispatch (lane, rank, item, traceable) VALUES (input.lane, input.rank, input.holder, true);
        ELSE
            INSERT INTO scheduled (run_at, lane, rank, item, traceable)
            VALUES (input.due, input.lane, input.rank, input.holder, true);
        END IF;
    END LOOP;
    WITH last AS MATERIALIZED (
        SELECT DISTINCT ON (w.holder)
            w.holder, w.lane, w.rank, w.due, w.request_id, w.trace, w.own_key, w.request, w.place,
            CASE WHEN w.is_unique THEN true END AS traceable
        FROM unnest(holders, verdicts, lanes, ranks, dues, request_ids, traces, own_keys, requests, is_unique) WITH ORDINALITY
            AS w (holder, verdict, lane, rank, due, request_id, trace, own_key, request, is_unique, place)
        WHERE w.verdict IN ('stored', 'replaced') AND w.holder = ANY (ids)
        ORDER BY w.holder, w.place DESC
    ),
    kept AS (
        INSERT INTO messages (queue_id, rank, validated, id, request_id, trace, key, request)
        SELECT l.lane, l.rank, validated, l.holder, l.request_id, l.trace, l.own_key, l.request FROM last AS l
    ),
    ready AS (
        INSERT INTO dispatch (lane, rank, item, traceable)
        SELECT l.lane, l.rank, l.holder, l.traceable FROM last AS l WHERE l.due IS NULL ORDER BY l.place
    )
    INSERT INTO scheduled (run_at, lane, rank, item, traceable)
    SELECT l.due, l.lane, l.rank, l.holder, l.traceable FROM last AS l WHERE l.due IS NOT NULL;
END $$;
COMMENT ON FUNCTION push_identified(integer[], uuid[], json[], smallint[], timestamptz[], text[], text[], text[], text[], bytea[], boolean, text, boolean, bytea[]) IS 'Stores messages that have a key of their own, or a value that may be unique in their queue; due null is at once, traces may be left empty. Of each it says what came of it (stored, existing, replaced, rejected, missing: its queue is gone; or, where each is taken apart, held: another transaction is taking its value) and which message that is. How: see find_waiting.';

CREATE FUNCTION run_again(lane integer, message uuid, OUT rank smallint, OUT held_by uuid)
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
#variable_conflict use_variable
DECLARE
    rule   jsonb;
    digest bytea;
    former uuid;
    took   record;
BEGIN
    SELECT q.uniqueness, unique_digest(q.uniqueness ->> 'key', m.request, m.key, NULL), m.replaced_by, m.rank
    INTO rule, digest, former, rank
    FROM messages AS m
    JOIN queues AS q ON q.id = m.queue_id
    WHERE m.queue_id = lane AND m.id = message;
    IF EXISTS (SELECT FROM messages AS m WHERE m.queue_id = lane AND m.id = former)
        AND NOT EXISTS (SELECT FROM outcomes AS o WHERE o.queue_id = lane AND o.id = former)
    THEN
        held_by := former;
        RETURN;
    END IF;
    IF rule IS NOT NULL AND digest IS NOT NULL THEN
        -- Whoever runs something again by hand replaces nothing by it, and overtakes nothing that runs or may run again.
        SELECT t.verdict, t.holder INTO took
        FROM take_value(lane, digest, message, rule || '{"conflict": "reject", "while": "unfinished"}', 'look') AS t;
        IF took.holder <> message
            AND NOT EXISTS (SELECT FROM outcomes AS o WHERE o.queue_id = lane AND o.id = took.holder)
        THEN
            held_by := took.holder;
            RETURN;
        END IF;
    END IF;
    UPDATE messages AS m SET replaced_by = NULL
    WHERE m.queue_id = lane AND m.id = message AND m.replaced_by IS NOT NULL;
    WITH reopened AS (
        DELETE FROM outcomes AS o WHERE o.queue_id = lane AND o.id = message AND o.status = 'ERROR' RETURNING o.*
    )
    INSERT INTO attempts (queue_id, attempt, id, lease, started_at, finished_at, ending, worker, error, logs)
    SELECT r.queue_id, r.attempt, r.id, r.lease, r.started_at, r.finished_at, r.ending, r.worker, r.error, r.logs
    FROM reopened AS r;
    INSERT INTO dispatch (lane, rank, item, traceable)
    VALUES (lane, rank, message, CASE WHEN took.holder = message THEN true END);
END $$;
COMMENT ON FUNCTION run_again(integer, uuid) IS 'Runs a message in ERROR again, whose outcome the caller has locked, in a queue whose messages may be unique: it takes its value again, unless another message that has not ended holds it, which is returned, and nothing is done. A value that the push gave itself is not known any more.';

DO $$
DECLARE
    called text;
BEGIN
    FOREACH called IN ARRAY ARRAY['tellable_json(json)', 'canonical_part(json)', 'canonical_json(json)', 'is_same_json(json, json)'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', called, current_schema());
    END LOOP;
END $$;

CREATE VIEW queue_messages AS
SELECT
    m.queue_id,
    m.id,
    q.name AS queue,
    CASE
        WHEN o.id IS NOT NULL THEN o.status
        WHEN EXISTS (
            -- A lease of many stays until the last has ended: one that waits for another attempt is PENDING.
            SELECT FROM leased_items AS l
            WHERE l.lane = m.queue_id AND l.item = m.id AND NOT EXISTS (
                SELECT FROM attempts AS a WHERE a.queue_id = m.queue_id AND a.id = m.id AND a.lease = l.lease
            )
        ) THEN 'INPROGRESS'
        ELSE 'PENDING'
    END::message_status AS status,
    m.request,
    o.result,
    o.error,
    m.rank,
    uuid_v7_time(m.id) AS created_at,
    o.started_at,
    o.finished_at,
    o.attempt,
    o.worker,
    o.logs,
    m.key
FROM messages AS m
JOIN queues AS q ON q.id = m.queue_id
LEFT JOIN outcomes AS o ON o.queue_id = m.queue_id AND o.id = m.id;
COMMENT ON VIEW queue_messages IS 'Every message with its status as one word, for reports and for people.';

-- What reports need of columns that hold more: who may read the reports need not see the rest.
CREATE VIEW queue_handlers AS
SELECT
    q.id AS queue_id,
    readable_json(q.definition) #>> '{handler,kind}' AS kind,
    readable_json(q.definition) #>> '{handler,name}' AS native,
    q.uniqueness IS NOT NULL AS is_unique
FROM queues AS q;
COMMENT ON VIEW queue_handlers IS 'Which kind of handler each queue has, and whether its messages may be unique, for reports.';
COMMENT ON COLUMN queue_handlers.queue_id IS 'The queue.';
COMMENT ON COLUMN queue_handlers.kind IS 'javascript, http, worker or native; null without a handler.';
COMMENT ON COLUMN queue_handlers.native IS 'The name of a native handler.';
COMMENT ON COLUMN queue_handlers.is_unique IS 'Whether messages of the queue may be unique.';

CREATE VIEW queue_runners AS
SELECT
    h.queue_id,
    h.kind,
    h.native,
    EXISTS (
        SELECT
        FROM workers AS w
        WHERE w.given_up_at IS NULL
            AND NOT is_silent(w.heartbeat, w.lease)
            AND CASE h.kind
                WHEN 'javascript' THEN 'javascript' = ANY (w.runs)
                WHEN 'native' THEN 'native ' || h.native = ANY (w.runs)
                ELSE true
            END
    ) AS is_there
FROM queue_handlers AS h
WHERE h.kind IN ('javascript', 'http', 'native');
COMMENT ON VIEW queue_runners IS 'Of each queue whose messages our processes run, whether one lives that can.';
COMMENT ON COLUMN queue_runners.queue_id IS 'The queue.';
COMMENT ON COLUMN queue_runners.kind IS 'As in queue_handlers.';
COMMENT ON COLUMN queue_runners.native IS 'As in queue_handlers.';
COMMENT ON COLUMN queue_runners.is_there IS 'Whether a process lives that has the native handler, or runs JavaScript; for http, whether any lives.';

CREATE VIEW outcome_causes AS
SELECT
    o.queue_id,
    o.id,
    o.status,
    o.finished_at,
    CASE
        WHEN o.status = 'COMPLETE' THEN NULL
        -- json keeps what PostgreSQL's text cannot hold; to look into it as it is would fail.
        WHEN json_typeof(o.error) = 'object' THEN coalesce(readable_json(o.error) ->> 'name', 'other')
        ELSE 'other'
    END AS error
FROM outcomes AS o;
COMMENT ON VIEW outcome_causes IS 'How messages ended, with the name of the error alone, for reports.';
COMMENT ON COLUMN outcome_causes.error IS 'The name of the error; other when it has none; null when there is none.';

CREATE FUNCTION enqueue_due(delay interval, run_at timestamptz, priority integer) RETURNS timestamptz
LANGUAGE plpgsql
AS $$
DECLARE
    called timestamptz := clock_timestamp();
    due    timestamptz := coalesce(run_at, called + delay);
BEGIN
    IF priority NOT BETWEEN -100 AND 100 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'priority must lie between -100 and 100';
    END IF;
    IF delay IS NOT NULL AND run_at IS NOT NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'give delay or run_at, not both';
    END IF;
    -- As over HTTP. The engine reckons with these times, and there is no reckoning with infinity.
    IF NOT isfinite(due) OR due > called + interval '3660 days' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a message can wait for ten years at most';
    END IF;
    RETURN CASE WHEN due > called THEN due END;
END $$;
COMMENT ON FUNCTION enqueue_due(interval, timestamptz, integer) IS 'When a message is due that is enqueued on these terms: null for at once. Refuses terms that HTTP would refuse.';

CREATE FUNCTION enqueue_identified(
    queue    text,
    lane     integer,
    rule     jsonb,
    ids      uuid[],
    payloads json[],
    rank     smallint,
    due      timestamptz,
    own_keys text[],
    given    text[]
) RETURNS uuid[]
LANGUAGE plpgsql
AS $$
#variable_conflict use_variable
DECLARE
    count    integer := cardinality(ids);
    told     record;
    lowest   smallint;
BEGIN
    IF cardinality(own_keys) <> count OR cardinality(given) <> count THEN
        RAISE invalid_parameter_value USING MESSAGE = 'keys and unique_values must have as many elements as there are payloads';
    END IF;
    IF EXISTS (SELECT FROM unnest(own_keys || given) AS o (text) WHERE length(o.text) NOT BETWEEN 1 AND 255) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a key or a unique value has 1 to 255 characters';
    END IF;
    IF rule IS NULL AND EXISTS (SELECT FROM unnest(given) AS g (text) WHERE g.text IS NOT NULL) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('the queue %L has no option unique, which says for how long a value is unique', queue);
    END IF;
    SELECT p.verdicts, p.holders INTO told
    FROM push_identified(
        array_fill(lane, ARRAY[count]), ids, payloads, array_fill(rank, ARRAY[count]), array_fill(due, ARRAY[count]),
        array_fill(sql_request_id(), ARRAY[count]), coalesce(own_keys, array_fill(NULL::text, ARRAY[count])),
        coalesce(given, array_fill(NULL::text, ARRAY[count])), array_fill(NULL::text, ARRAY[count]),
        array_fill(NULL::bytea, ARRAY[count]), false, 'hold', false, array_fill(sql_trace(), ARRAY[count])
    ) AS p;
    IF 'rejected' = ANY (told.verdicts) THEN
        RAISE unique_violation USING
            MESSAGE = format('message %s of the queue %L holds this value', told.holders[array_position(told.verdicts, 'rejected')], queue);
    END IF;
    IF told.verdicts && ARRAY['stored', 'replaced'] THEN
        PERFORM ring(CASE WHEN due IS NULL THEN lane END, rank);
    END IF;
    -- What was held back from claims until now may have been passed over.
    IF rule ->> 'while' = 'waiting' AND 'existing' = ANY (told.verdicts) THEN
        SELECT min(m.rank) INTO lowest FROM messages AS m WHERE m.queue_id = lane AND m.id = ANY (told.holders);
        PERFORM ring(lane, lowest);
    END IF;
    RETURN told.holders;
END $$;
COMMENT ON FUNCTION enqueue_identified(text, integer, jsonb, uuid[], json[], smallint, timestamptz, text[], text[]) IS 'What enqueue and enqueue_many do where messages have keys of their own or values that may be unique; returns for each the message that there is. One that is there already and waits does not start before the transaction has ended.';

CREATE FUNCTION enqueue(
    queue           text,
    payload         json,
    delay           interval    DEFAULT NULL,
    run_at          timestamptz DEFAULT NULL,
    priority        integer     DEFAULT NULL,
    idempotency_key text        DEFAULT NULL,
    key             text        DEFAULT NULL,
    unique_value    text        DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER
AS $$
#variable_conflict use_variable
DECLARE
    allowed boolean := require_grant('queue', queue);
    lane_id integer;
    rule    jsonb;
    message uuid := uuid_v7();
    holder  uuid;
    due     timestamptz := enqueue_due(delay, run_at, priority);
    former  record;
BEGIN
    IF payload IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'payload must not be null';
    END IF;
    SELECT q.id, q.uniqueness, coalesce(priority, (readable_json(q.definition) #>> '{options,priority}')::integer, 0)
    INTO lane_id, rule, priority
    FROM queues AS q WHERE q.name = queue;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('there is no queue %L', queue);
    END IF;
    IF idempotency_key IS NOT NULL THEN
        INSERT INTO idempotency_keys AS k (queue_id, key, digest, message_id)
        -- A message that is unique may say something else than what was pushed.
        VALUES (lane_id, idempotency_key, CASE WHEN rule IS NOT NULL THEN json_digest('push', payload) END, message)
        ON CONFLICT ON CONSTRAINT idempotency_keys_pkey DO NOTHING;
        IF NOT FOUND THEN
            -- Of a message that is deleted nobody knows any more what it said.
            SELECT k.message_id, k.answer IS NOT NULL OR NOT coalesce(
                CASE WHEN k.digest IS NOT NULL THEN k.digest = json_digest('push', payload) ELSE is_same_json(payload, m.request) END,
                true
            ) AS differs
            INTO former
            FROM idempotency_keys AS k
            LEFT JOIN messages AS m ON m.queue_id = k.queue_id AND m.id = k.message_id
            WHERE k.queue_id = lane_id AND k.key = idempotency_key;
            IF former.differs THEN
                RAISE unique_violation USING MESSAGE = 'this idempotency key was used with another payload';
            END IF;
            RETURN former.message_id;
        END IF;
    END IF;
    IF rule IS NOT NULL OR key IS NOT NULL OR unique_value IS NOT NULL THEN
        holder := (enqueue_identified(
            queue, lane_id, rule, ARRAY[message], ARRAY[payload], (-priority)::smallint, due, ARRAY[key], ARRAY[unique_value]
        ))[1];
        IF idempotency_key IS NOT NULL AND holder <> message THEN
            UPDATE idempotency_keys AS k SET message_id = holder WHERE k.queue_id = lane_id AND k.key = idempotency_key;
        END IF;
        RETURN holder;
    END IF;
    INSERT INTO messages (queue_id, rank, id, request_id, trace, request)
    VALUES (lane_id, -priority, message, sql_request_id(), sql_trace(), payload);
    IF due IS NULL THEN
        INSERT INTO dispatch (lane, rank, item) VALUES (lane_id, -priority, message);
    ELSE
        INSERT INTO scheduled (run_at, lane, rank, item) VALUES (due, lane_id, -priority, message);
    END IF;
    PERFORM ring(CASE WHEN due IS NULL THEN lane_id END, (-priority)::smallint);
    RETURN message;
END $$;
COMMENT ON FUNCTION enqueue(text, json, interval, timestamptz, integer, text, text, text) IS 'Pushes a message in the caller''s own transaction: it exists when, and only when, that commits. The queue''s schema validates it before it runs. delay counts from the call. Where the queue''s messages are unique, the message that holds the value is the one that there is.';

-- PostgreSQL takes a literal for text, which makes the call unambiguous.
CREATE FUNCTION enqueue(
    queue           text,
    payload         text,
    delay           interval    DEFAULT NULL,
    run_at          timestamptz DEFAULT NULL,
    priority        integer     DEFAULT NULL,
    idempotency_key text        DEFAULT NULL,
    key             text        DEFAULT NULL,
    unique_value    text        DEFAULT NULL
) RETURNS uuid
LANGUAGE sql
RETURN enqueue(queue, payload::json, delay, run_at, priority, idempotency_key, key, unique_value);
COMMENT ON FUNCTION enqueue(text, text, interval, timestamptz, integer, text, text, text) IS 'As enqueue of json, which the text must be.';

CREATE FUNCTION enqueue(
    queue           text,
    payload         jsonb,
    delay           interval    DEFAULT NULL,
    run_at          timestamptz DEFAULT NULL,
    priority        integer     DEFAULT NULL,
    idempotency_key text        DEFAULT NULL,
    key             text        DEFAULT NULL,
    unique_value    text        DEFAULT NULL
) RETURNS uuid
LANGUAGE sql
RETURN enqueue(queue, payload::json, delay, run_at, priority, idempotency_key, key, unique_value);
COMMENT ON FUNCTION enqueue(text, jsonb, interval, timestamptz, integer, text, text, text) IS 'As enqueue of json.';

CREATE FUNCTION enqueue_many(
    queue         text,
    payloads      json[],
    delay         interval    DEFAULT NULL,
    run_at        timestamptz DEFAULT NULL,
    priority      integer     DEFAULT NULL,
    keys          text[]      DEFAULT NULL,
    unique_values text[]      DEFAULT NULL
) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER
AS $$
#variable_conflict use_variable
DECLARE
    allowed boolean := require_grant('queue', queue);
    lane_id integer;
    rule    jsonb;
    due     timestamptz := enqueue_due(delay, run_at, priority);
    ids     uuid[];
BEGIN
    IF payloads IS NULL OR EXISTS (SELECT FROM unnest(payloads) AS p (payload) WHERE p.payload IS NULL) THEN
        RAISE null_value_not_allowed USING MESSAGE = 'a payload must not be null';
    END IF;
    SELECT q.id, q.uniqueness, coalesce(priority, (readable_json(q.definition) #>> '{options,priority}')::integer, 0)
    INTO lane_id, rule, priority
    FROM queues AS q WHERE q.name = queue;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('there is no queue %L', queue);
    END IF;
    ids := ARRAY(SELECT uuid_v7() FROM generate_series(1, cardinality(payloads)));
    IF rule IS NOT NULL OR keys IS NOT NULL OR unique_values IS NOT NULL THEN
        RETURN enqueue_identified(queue, lane_id, rule, ids, payloads, (-priority)::smallint, due, keys, unique_values);
    END IF;
    INSERT INTO messages (queue_id, rank, id, request_id, trace, request)
    SELECT lane_id, -priority, i.id, o.request_id, o.trace, i.payload
    FROM unnest(ids, payloads) AS i (id, payload)
    CROSS JOIN (SELECT sql_request_id() AS request_id, sql_trace() AS trace) AS o;
    IF due IS NULL THEN
        INSERT INTO dispatch (lane, rank, item)
        SELECT lane_id, -priority, i.id FROM unnest(ids) WITH ORDINALITY AS i (id, place) ORDER BY i.place;
    ELSE
        INSERT INTO scheduled (run_at, lane, rank, item)
        SELECT due, lane_id, -priority, i.id FROM unnest(ids) WITH ORDINALITY AS i (id, place) ORDER BY i.place;
    END IF;
    IF cardinality(ids) > 0 THEN
        PERFORM ring(CASE WHEN due IS NULL THEN lane_id END, (-priority)::smallint);
    END IF;
    RETURN ids;
END $$;
COMMENT ON FUNCTION enqueue_many(text, json[], interval, timestamptz, integer, text[], text[]) IS 'Pushes many messages as enqueue does one, in two statements; returns their ids in the order of the payloads, in which they are claimed. A key or a unique value stands at the place of its payload.';

CREATE FUNCTION enqueue_many(
    queue         text,
    payloads      jsonb[],
    delay         interval    DEFAULT NULL,
    run_at        timestamptz DEFAULT NULL,
    priority      integer     DEFAULT NULL,
    keys          text[]      DEFAULT NULL,
    unique_values text[]      DEFAULT NULL
) RETURNS uuid[]
LANGUAGE sql
RETURN enqueue_many(queue, payloads::json[], delay, run_at, priority, keys, unique_values);
COMMENT ON FUNCTION enqueue_many(text, jsonb[], interval, timestamptz, integer, text[], text[]) IS 'As enqueue_many of json.';

CREATE FUNCTION enqueue_many(
    queue         text,
    payloads      text[],
    delay         interval    DEFAULT NULL,
    run_at        timestamptz DEFAULT NULL,
    priority      integer     DEFAULT NULL,
    keys          text[]      DEFAULT NULL,
    unique_values text[]      DEFAULT NULL
) RETURNS uuid[]
LANGUAGE sql
RETURN enqueue_many(queue, payloads::json[], delay, run_at, priority, keys, unique_values);
COMMENT ON FUNCTION enqueue_many(text, text[], interval, timestamptz, integer, text[], text[]) IS 'As enqueue_many of json, which each text must be.';

-- Whatever the caller's search path is. Without pg_temp at its end a temporary table named messages would be found
-- first. The others find what they call by its identity.
DO $$
DECLARE
    called text;
BEGIN
    FOREACH called IN ARRAY ARRAY[
        'enqueue(text, json, interval, timestamptz, integer, text, text, text)',
        'enqueue_many(text, json[], interval, timestamptz, integer, text[], text[])'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', called, current_schema());
    END LOOP;
END $$;
