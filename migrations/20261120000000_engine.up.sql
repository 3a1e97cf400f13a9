-- The engine: who works, what is ready, what waits for its time, what is being worked on.
-- It knows an item only as (lane, item): what an item is, its feature's own tables say.

CREATE TABLE lanes (
    id         integer GENERATED ALWAYS AS IDENTITY,
    kind       text NOT NULL,
    removed_at timestamptz,
    CONSTRAINT lanes_pkey PRIMARY KEY (id)
);
CREATE INDEX lanes_removed_idx ON lanes (id) WHERE removed_at IS NOT NULL;
COMMENT ON TABLE lanes IS 'Everything that has its own room for work: one row a queue (and, for the hub, one an endpoint). A lane id never comes back. Bounded by: the definitions of queues, job types, endpoints and pollers; a lane goes with its own, that of an endpoint a day later.';
COMMENT ON COLUMN lanes.id IS 'The name of the lane in dispatch, scheduled and leases.';
COMMENT ON COLUMN lanes.removed_at IS 'When what it was the lane of was deleted. It stays for a day: whoever did not know yet may put work into it, which is then found.';
COMMENT ON COLUMN lanes.kind IS 'The consumer that runs its items: queue.';

CREATE TABLE dispatch (
    lane      integer  NOT NULL,
    rank      smallint NOT NULL,
    seq       bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    item      uuid     NOT NULL,
    attempt   smallint NOT NULL DEFAULT 0,
    traceable boolean,
    CONSTRAINT dispatch_pkey PRIMARY KEY (lane, rank, seq),
    CONSTRAINT dispatch_attempt_not_negative CHECK (attempt >= 0)
) WITH (
    -- Rows live for milliseconds: vacuum early, and never stop to rest.
    autovacuum_vacuum_scale_factor = 0.0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX dispatch_traceable_idx ON dispatch (item) WHERE traceable;
COMMENT ON TABLE dispatch IS 'Items that may be claimed now. The claim deletes the row; only a retry or a reclaim writes it again. Bounded by: what waits to be claimed; rows of lanes that are gone are swept.';
COMMENT ON COLUMN dispatch.lane IS 'The lane the item waits in.';
COMMENT ON COLUMN dispatch.rank IS 'The negated priority, so that the order of the key is the order of the claim.';
COMMENT ON COLUMN dispatch.seq IS 'Push order within a rank.';
COMMENT ON COLUMN dispatch.item IS 'The item, in its feature''s table.';
COMMENT ON COLUMN dispatch.attempt IS 'How many attempts have been made; the claim counts the next one.';
COMMENT ON COLUMN dispatch.traceable IS 'True while no attempt of it counts, of what its feature has to find by the item alone; null, without a byte and without an entry in the index, of all else.';

CREATE TABLE scheduled (
    run_at    timestamptz NOT NULL,
    lane      integer     NOT NULL,
    rank      smallint    NOT NULL,
    item      uuid        NOT NULL,
    attempt   smallint    NOT NULL DEFAULT 0,
    traceable boolean,
    CONSTRAINT scheduled_pkey PRIMARY KEY (run_at, item),
    CONSTRAINT scheduled_attempt_not_negative CHECK (attempt >= 0),
    CONSTRAINT scheduled_run_at_finite CHECK (isfinite(run_at))
);
CREATE INDEX scheduled_item_idx ON scheduled (item);
COMMENT ON TABLE scheduled IS 'Items that wait for their time (delay, backoff). Promoted to dispatch in batches, so that a million of them cost the claim nothing. Bounded by: what waits for its time; rows of lanes that are gone are swept.';
COMMENT ON COLUMN scheduled.run_at IS 'Not before this moment, by the database''s clock.';
COMMENT ON COLUMN scheduled.lane IS 'As in dispatch.';
COMMENT ON COLUMN scheduled.rank IS 'As in dispatch.';
COMMENT ON COLUMN scheduled.item IS 'As in dispatch.';
COMMENT ON COLUMN scheduled.attempt IS 'As in dispatch.';
COMMENT ON COLUMN scheduled.traceable IS 'As in dispatch, into which it is promoted with it.';

CREATE TABLE workers (
    id           uuid        NOT NULL,
    name         text        NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat    timestamptz NOT NULL DEFAULT now(),
    clock_at     timestamptz NOT NULL DEFAULT now(),
    steady_since timestamptz NOT NULL DEFAULT '-infinity',
    given_up_at  timestamptz,
    lease        interval    NOT NULL,
    capacity     integer     NOT NULL,
    process      uuid        NOT NULL DEFAULT gen_random_uuid(),
    runs         text[]      NOT NULL DEFAULT '{}',
    round_at     timestamptz NOT NULL DEFAULT now(),
    stops        uuid[]      NOT NULL DEFAULT '{}',
    CONSTRAINT workers_pkey PRIMARY KEY (id),
    CONSTRAINT workers_lease_positive CHECK (lease > interval '0')
) WITH (fillfactor = 50);
COMMENT ON TABLE workers IS 'One row a worker process that lives, renewed by one small UPDATE. Bounded by: the processes that live; the rows of dead ones are deleted with the reclaim and by the upkeep.';
COMMENT ON COLUMN workers.id IS 'Made anew whenever the process registers: a worker that was given up never comes back under its old id.';
COMMENT ON COLUMN workers.name IS 'Host and process, for people.';
COMMENT ON COLUMN workers.started_at IS 'When it registered.';
COMMENT ON COLUMN workers.heartbeat IS 'When it last said that it lives.';
COMMENT ON COLUMN workers.clock_at IS 'What the database''s clock said then: with it the view clock knows that somebody alive has seen the clock as it is now.';
COMMENT ON COLUMN workers.steady_since IS 'Since when the database''s clock has gone on as this process''s own does: when it last saw the clock being set; -infinity if it never did.';
COMMENT ON COLUMN workers.given_up_at IS 'When it was found silent. From then on it neither renews nor claims, and what it holds goes back.';
COMMENT ON COLUMN workers.lease IS 'How long after a heartbeat it still counts as alive.';
COMMENT ON COLUMN workers.process IS 'The process, however often it registers: one that was given up, or that a failover cut off, and that lives under another id has not died.';
COMMENT ON COLUMN workers.runs IS 'What it can run and another may not, in the words of the features: javascript, javascript N (so many of one queue at once), native NAME, key NAME (what is sealed with it).';
COMMENT ON COLUMN workers.round_at IS 'When its claim loop had last gone round, as of its heartbeat: one that goes on beating and claims nothing is seen by it.';
COMMENT ON COLUMN workers.stops IS 'Items that it holds and whose ends nobody wants any more. It reads them with its next heartbeat, and they go with the one after that.';
COMMENT ON COLUMN workers.capacity IS 'How many items it runs at once, over all lanes.';

CREATE TABLE leases (
    id         uuid        NOT NULL DEFAULT gen_random_uuid(),
    worker     uuid,
    expires_at timestamptz,
    lease      interval,
    deadline   timestamptz,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    holder     text,
    lane       integer     NOT NULL,
    ranks      smallint[]  NOT NULL,
    items      uuid[]      NOT NULL,
    attempts   smallint[]  NOT NULL,
    traceable  boolean[],
    terms      json,
    CONSTRAINT leases_pkey PRIMARY KEY (id),
    CONSTRAINT leases_one_way_to_end CHECK ((worker IS NULL) <> (expires_at IS NULL)),
    CONSTRAINT leases_length_if_it_expires CHECK ((lease IS NULL) = (expires_at IS NULL)),
    CONSTRAINT leases_remote_holds_one CHECK (holder IS NULL OR (worker IS NULL AND cardinality(items) = 1)),
    CONSTRAINT leases_expires_by_deadline CHECK (expires_at <= deadline),
    CONSTRAINT leases_same_length CHECK (
        cardinality(items) > 0
        AND cardinality(ranks) = cardinality(items)
        AND cardinality(attempts) = cardinality(items)
        AND coalesce(cardinality(traceable), cardinality(items)) = cardinality(items)
    )
) WITH (toast_tuple_target = 8160);
-- A lease lives for milliseconds: neither pressed together nor, if it can be helped, stored in another place.
ALTER TABLE leases
    ALTER COLUMN ranks SET STORAGE EXTERNAL,
    ALTER COLUMN items SET STORAGE EXTERNAL,
    ALTER COLUMN attempts SET STORAGE EXTERNAL,
    ALTER COLUMN traceable SET STORAGE EXTERNAL;
-- A claim by a process touches the two that follow; the others know nothing of its leases.
CREATE INDEX leases_worker_idx ON leases (worker) WHERE worker IS NOT NULL;
CREATE INDEX leases_lane_idx ON leases (lane) WHERE holder IS NULL;
CREATE INDEX leases_expires_at_idx ON leases (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX leases_remote_lane_idx ON leases (lane, expires_at) WHERE holder IS NOT NULL;
CREATE INDEX leases_remote_item_idx ON leases (lane, (items[1])) WHERE holder IS NOT NULL;
COMMENT ON TABLE leases IS 'One row a claimed batch of one lane. It is the fence: an outcome counts only while the lease that ran it still exists. Bounded by: what runs; the last end of a lease deletes it, and the reclaim what dead workers held.';
COMMENT ON COLUMN leases.id IS 'Random, so it never comes back, not even after a crash undid the claim (a sequence would): a late outcome can never meet a newer claim.';
COMMENT ON COLUMN leases.worker IS 'The process that runs the batch; the lease lives while its heartbeat does.';
COMMENT ON COLUMN leases.expires_at IS 'For a claim over HTTP instead: lives until then, moved on by the remote worker''s heartbeats.';
COMMENT ON COLUMN leases.lease IS 'For a claim over HTTP: how long it lives after each heartbeat.';
COMMENT ON COLUMN leases.deadline IS 'For a claim over HTTP: no heartbeat moves expires_at past this moment; null when the attempt may take any time.';
COMMENT ON COLUMN leases.claimed_at IS 'When the attempt began.';
COMMENT ON COLUMN leases.holder IS 'For a claim over HTTP, which holds one item: the subject of the token that claimed.';
COMMENT ON COLUMN leases.lane IS 'The lane of the batch.';
COMMENT ON COLUMN leases.ranks IS 'The rank of each item, for its way back.';
COMMENT ON COLUMN leases.items IS 'The items of the batch.';
COMMENT ON COLUMN leases.attempts IS 'The number of this attempt for each item, counted from 1.';
COMMENT ON COLUMN leases.traceable IS 'What dispatch said of each item, which goes back so if the attempt does not count; null, and without a byte, when of none.';
COMMENT ON COLUMN leases.terms IS 'For a claim over HTTP: what the definition said then, in its feature''s words, since it decides about the end, which may come to another process.';

-- Leases are measured by the database's clock, and that clock may be set. Whether it was, each process tells by its
-- own monotonic clock, and notes it in its workers row with its heartbeat. What follows is the one place that says
-- when somebody counts as silent and when that has consequences.

CREATE FUNCTION is_silent(renewed timestamptz, lease interval) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT renewed + lease < now() OR renewed > now() + interval '1 second'
$$;
COMMENT ON FUNCTION is_silent(timestamptz, interval) IS 'Whether what was renewed at this moment, for so long, is over as far as its stamp tells. A moment that is still to come was stamped before the clock was set back: who lives has renewed since.';

CREATE FUNCTION is_over(renewed timestamptz, lease interval, steady_since timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT is_silent(renewed, lease) AND steady_since + lease <= now()
$$;
COMMENT ON FUNCTION is_over(timestamptz, interval, timestamptz) IS 'Whether that may be acted upon: after the clock was set (see the view clock), whoever lives has a whole lease to renew under the new time.';

CREATE VIEW clock AS
SELECT max(steady_since) FILTER (WHERE steady_since <= now() + interval '1 second') AS steady_since
FROM workers
HAVING bool_or(clock_at BETWEEN now() - lease / 2 AND now() + interval '1 second');
COMMENT ON VIEW clock IS 'Since when the database''s clock has not been set, as the processes saw it. No row while nobody alive has seen the clock as it is now: it may just have been set, so nobody is given up.';
COMMENT ON COLUMN clock.steady_since IS 'When somebody who counts last saw it being set; -infinity if nobody did.';

CREATE VIEW lease_terms AS
SELECT
    l.id,
    l.lane,
    l.items,
    l.claimed_at,
    coalesce(l.holder, w.name) AS holder,
    coalesce(l.expires_at - l.lease, w.heartbeat, l.claimed_at) AS renewed_at,
    coalesce(l.lease, w.lease, interval '0') AS lease
FROM leases AS l
LEFT JOIN workers AS w ON w.id = l.worker;
COMMENT ON VIEW lease_terms IS 'The leases with their holders'' last signs of life, for people and reports: is_silent(renewed_at, lease) says whether one is over.';
COMMENT ON COLUMN lease_terms.id IS 'As in leases.';
COMMENT ON COLUMN lease_terms.lane IS 'As in leases.';
COMMENT ON COLUMN lease_terms.items IS 'As in leases.';
COMMENT ON COLUMN lease_terms.claimed_at IS 'As in leases.';
COMMENT ON COLUMN lease_terms.holder IS 'Who claimed it; null when the worker is gone.';
COMMENT ON COLUMN lease_terms.renewed_at IS 'The holder''s last sign of life; of a worker that is gone, the claim.';
COMMENT ON COLUMN lease_terms.lease IS 'How long it lives after that.';

CREATE VIEW leased_items AS
SELECT id AS lease, lane, items[1] AS item, claimed_at, worker, holder
FROM leases
WHERE holder IS NOT NULL
UNION ALL
SELECT leases.id, leases.lane, each.item, leases.claimed_at, leases.worker, leases.holder
FROM leases
CROSS JOIN unnest(leases.items) AS each (item)
WHERE leases.holder IS NULL;
COMMENT ON VIEW leased_items IS 'Every item of every lease. Ask for a lane and an item: that is a look-up for what remote workers hold, and reads no leases of other lanes.';

CREATE VIEW lease_workers AS
-- From one worker to the next by the index, however many leases each has.
WITH RECURSIVE workers_of_leases AS (
    (SELECT worker FROM leases WHERE worker IS NOT NULL ORDER BY worker LIMIT 1)
    UNION ALL
    SELECT (
        SELECT leases.worker FROM leases
        WHERE leases.worker > former.worker
        ORDER BY leases.worker
        LIMIT 1
    )
    FROM workers_of_leases AS former
    WHERE former.worker IS NOT NULL
)
SELECT worker FROM workers_of_leases WHERE worker IS NOT NULL;
COMMENT ON VIEW lease_workers IS 'The processes that have leases, those that are gone included.';

CREATE VIEW over_leases AS
SELECT l.id
FROM leases AS l
CROSS JOIN clock AS c
WHERE l.expires_at < now() AND is_over(l.expires_at - l.lease, l.lease, c.steady_since)
UNION ALL
-- Stamped before the clock was set back. They are looked for only where somebody has seen that.
SELECT l.id
FROM leases AS l
CROSS JOIN clock AS c
WHERE (SELECT steady_since > now() - interval '1 day' FROM clock)
    AND l.expires_at - l.lease > now() + interval '1 second' AND is_over(l.expires_at - l.lease, l.lease, c.steady_since)
UNION ALL
SELECT l.id
FROM lease_workers AS held
JOIN leases AS l ON l.worker = held.worker
WHERE NOT EXISTS (SELECT FROM workers AS w WHERE w.id = held.worker AND w.given_up_at IS NULL);
COMMENT ON VIEW over_leases IS 'The leases that outlived their holders, by indexes, however many there are that did not.';
COMMENT ON COLUMN over_leases.id IS 'As in leases.';

CREATE TABLE lane_askers (
    lane     integer     NOT NULL,
    asked_at timestamptz NOT NULL,
    holder   text        NOT NULL,
    CONSTRAINT lane_askers_pkey PRIMARY KEY (lane),
    CONSTRAINT lane_askers_lane_fkey FOREIGN KEY (lane) REFERENCES lanes (id) ON DELETE CASCADE
) WITH (fillfactor = 50);
COMMENT ON TABLE lane_askers IS 'When a remote worker last asked for items of each lane, whether it got any: who waits for nobody who asks is told so. Noted every ten seconds while somebody asks. Bounded by: the lanes that remote workers have asked for; a row goes with its lane.';
COMMENT ON COLUMN lane_askers.lane IS 'The lane.';
COMMENT ON COLUMN lane_askers.asked_at IS 'When somebody last asked, or waited for an answer; ten seconds late at most.';
COMMENT ON COLUMN lane_askers.holder IS 'Who that was: the subject of the token.';

CREATE TABLE duties (
    name     text        NOT NULL,
    holder   uuid        NOT NULL,
    until    timestamptz NOT NULL,
    last_at  timestamptz NOT NULL DEFAULT now(),
    note     text,
    noted_at timestamptz,
    CONSTRAINT duties_pkey PRIMARY KEY (name),
    CONSTRAINT duties_note_has_time CHECK ((note IS NULL) = (noted_at IS NULL))
);
COMMENT ON TABLE duties IS 'Work that one process does for all: a leased row, which any process may hold. Bounded by: the duties there are: one row each.';
COMMENT ON COLUMN duties.name IS 'The duty: retention (the upkeep of the queues), hub (that of the hub), job_retention, or jobs (their deadlines).';
COMMENT ON COLUMN duties.holder IS 'The process that holds it.';
COMMENT ON COLUMN duties.until IS 'Another may take it after this moment.';
COMMENT ON COLUMN duties.last_at IS 'When it was last taken or renewed.';
COMMENT ON COLUMN duties.note IS 'What of it has not come to its end, and why; null when all is done.';
COMMENT ON COLUMN duties.noted_at IS 'Since when there has been such a thing.';

CREATE FUNCTION lockers(mark xid) RETURNS SETOF xid
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_locks AS l WHERE l.locktype = 'transactionid' AND l.transactionid = mark AND l.granted) THEN
        RETURN NEXT mark;
        RETURN;
    END IF;
    -- Several have locked it, or none any more: only PostgreSQL knows which the mark is of.
    BEGIN
        RETURN QUERY SELECT m.xid FROM pg_get_multixact_members(mark) AS m;
    EXCEPTION WHEN OTHERS THEN
        RETURN;
    END;
END $$;
COMMENT ON FUNCTION lockers(xid) IS 'The transactions that have locked a row whose xmax is this; those that have ended may be among them.';

CREATE TABLE catalog (
    singleton boolean NOT NULL DEFAULT true,
    revision  bigint  NOT NULL DEFAULT 1,
    removed   bigint  NOT NULL DEFAULT 1,
    CONSTRAINT catalog_pkey PRIMARY KEY (singleton),
    CONSTRAINT catalog_is_one_row CHECK (singleton)
);
COMMENT ON TABLE catalog IS 'Counts the changes of definitions, so that every process learns of them with the poll it makes anyway. Bounded by: itself: one row.';
COMMENT ON COLUMN catalog.singleton IS 'Holds the table to one row.';
COMMENT ON COLUMN catalog.revision IS 'Grows with every change of a definition, which bears it as its version: what is newer than a process knows, it reads.';
COMMENT ON COLUMN catalog.removed IS 'The revision of the last change that removed a definition: a process that knows an older one asks which are left.';
INSERT INTO catalog DEFAULT VALUES;

CREATE TABLE grants (
    role       text        NOT NULL,
    kind       text        NOT NULL,
    name       text        NOT NULL DEFAULT '',
    granted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT grants_pkey PRIMARY KEY (role, kind, name),
    CONSTRAINT grants_kind_known CHECK (kind IN ('queue', 'store', 'job type', 'reports')),
    CONSTRAINT grants_name_unless_reports CHECK ((kind = 'reports') = (name = '')),
    CONSTRAINT grants_name_grammar CHECK (name ~ '^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?[*]?$')
);
COMMENT ON TABLE grants IS 'Who may call the SQL functions, and for what, and who may read the reports: postrider grant and revoke write it. Bounded by: what administrators grant; revoking deletes it.';
COMMENT ON COLUMN grants.role IS 'The role of PostgreSQL, by its name, which outlives a dump; its members that inherit from it have the grant too.';
COMMENT ON COLUMN grants.kind IS 'What may be done: queue (enqueue), store (publish), job type (broadcast) or reports.';
COMMENT ON COLUMN grants.name IS 'Which queue, store or job type; with * at its end all that begin so; empty for reports.';
COMMENT ON COLUMN grants.granted_at IS 'When it was granted.';

CREATE FUNCTION sql_caller() RETURNS name
LANGUAGE sql STABLE
RETURN coalesce(nullif(current_setting('role'), 'none')::name, session_user);
COMMENT ON FUNCTION sql_caller() IS 'Who calls, also within a SECURITY DEFINER function, where current_user is its owner: the role that the session has set, else the one that it logged in as.';

CREATE FUNCTION is_covered(name text, by text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN by = name OR right(by, 1) = '*' AND starts_with(name, left(by, -1));
COMMENT ON FUNCTION is_covered(text, text) IS 'Whether a grant for this name, or for all that begin so, is one for that name.';

CREATE VIEW callers_grants AS
SELECT kind, name
FROM grants
WHERE pg_has_role(sql_caller(), to_regrole(quote_ident(role)), 'USAGE');
COMMENT ON VIEW callers_grants IS 'The grants of whoever calls: its own, and those of the roles that it inherits from.';

CREATE FUNCTION require_grant(kind text, name text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_variable
BEGIN
    -- The function that asks is SECURITY DEFINER: current_user is the owner, which needs no grant; nor do its members,
    -- and superusers are members of every role.
    IF pg_has_role(sql_caller(), current_user, 'USAGE') THEN
        RETURN true;
    END IF;
    IF EXISTS (SELECT FROM callers_grants AS g WHERE g.kind = kind AND is_covered(name, g.name)) THEN
        RETURN true;
    END IF;
    RAISE insufficient_privilege USING
        MESSAGE = format('role %I has no grant for %s', sql_caller(), coalesce(kind || ' ' || quote_literal(name), 'this ' || kind)),
        HINT = format('The owner of the schema may run: postrider grant %I --%s %s',
            sql_caller(), replace(kind, ' ', '-'), CASE WHEN name ~ '^[A-Za-z0-9._-]+$' THEN name ELSE 'NAME' END);
END $$;
COMMENT ON FUNCTION require_grant(text, text) IS 'True for the owner and whoever has a grant for this queue, store or job type, itself or by a role that it inherits from; refuses everybody else. Asked before anything is looked up, so that a refusal does not tell what is there.';

CREATE FUNCTION is_trace(trace bytea) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN octet_length(trace) BETWEEN 25 AND 537;
COMMENT ON FUNCTION is_trace(bytea) IS 'Whether this is a W3C trace context as it is stored: 16 bytes of trace id, 8 of span id, 1 of flags, and then the tracestate, at most 512 bytes.';

CREATE FUNCTION sql_trace() RETURNS bytea
LANGUAGE sql STABLE
RETURN CASE
    WHEN current_setting('postrider.traceparent', true)
        ~ '^(00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}|(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?)$'
    THEN set_byte(
        decode(replace(substr(current_setting('postrider.traceparent', true), 4, 52), '-', ''), 'hex'), 24,
        get_byte(decode(substr(current_setting('postrider.traceparent', true), 54, 2), 'hex'), 0) & 3)
END;
COMMENT ON FUNCTION sql_trace() IS 'The W3C trace context that the caller has set (SET LOCAL postrider.traceparent); null when it has set none, or a wrong one.';

CREATE FUNCTION sql_request_id() RETURNS text
LANGUAGE sql STABLE
RETURN CASE
    WHEN current_setting('postrider.request_id', true) ~ '^[A-Za-z0-9_.:/+=-]{1,128}$'
    THEN current_setting('postrider.request_id', true)
END;
COMMENT ON FUNCTION sql_request_id() IS 'The name of the request that the caller works for, if it has set it (SET LOCAL postrider.request_id) and it is plain.';

CREATE FUNCTION uuid_v7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
-- RFC 9562, 5.7: 48 bits of milliseconds, version, 12 random bits, variant, 62 random bits. One expression, which
-- PostgreSQL writes into the statement that calls it.
RETURN encode(
    set_bit(set_bit(
        overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM at) * 1000)::bigint) FROM 3)
            FROM 1 FOR 6),
        52, 1), 53, 1),
    'hex')::uuid;
COMMENT ON FUNCTION uuid_v7(timestamptz) IS 'A UUID of version 7 for this moment, as PostgreSQL 18 has it built in.';

CREATE SEQUENCE last_bell MINVALUE 0 START 0;
COMMENT ON SEQUENCE last_bell IS 'The millisecond in which a transaction of SQL last told the processes that there is work. Not transactional, and so no row that transactions wait for.';

-- PostgreSQL cuts a longer name when it listens, and refuses it when it notifies: the start for people, the digest for
-- PostgreSQL.
DO $$
DECLARE
    schema  text := current_schema();
    channel text := schema || '_postrider';
BEGIN
    IF octet_length(channel) > 63 THEN
        channel := left(schema, 5) || '_' || left(encode(sha256(convert_to(schema, 'UTF8')), 'hex'), 32) || '_postrider';
    END IF;
    EXECUTE format('CREATE FUNCTION bell_channel() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN %L', channel);
END $$;
COMMENT ON FUNCTION bell_channel() IS 'The channel on which the processes of this schema notify each other.';

-- For functions whose search path is pinned: one of its own would cost each call as much as all else it does. So would
-- reading the sequence by a query.
CREATE FUNCTION ring(lane integer DEFAULT NULL, rank smallint DEFAULT 0) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    now_is bigint := date_part('epoch', clock_timestamp()) * 1000;
    last   bigint := pg_sequence_last_value('last_bell');
BEGIN
    IF last BETWEEN now_is - 3 AND now_is THEN
        RETURN;
    END IF;
    -- Transactions that notify commit one after another. Were each to start it whose predecessor took 3 ms for that, on a
    -- disk as slow as this, all would. So one is enough for all that are under way, unless it stays open. The last bell
    -- lies ahead when the clock was set back, and is null when none has rung.
    IF pg_try_advisory_xact_lock(1886352244, 'last_bell'::regclass::oid::integer)
        OR (last BETWEEN now_is - 100 AND now_is) IS NOT TRUE
    THEN
        PERFORM setval('last_bell', now_is);
        -- What a process does not claim for the lane that is named, it finds when it looks.
        PERFORM pg_notify(bell_channel(), coalesce(lane || '@' || rank, ''));
    END IF;
END $$;
COMMENT ON FUNCTION ring(integer, smallint) IS 'Tells the processes to claim from this lane and to look when this transaction commits, unless another told them within 3 ms, or is about to and began to within 100 ms: who hears a bell looks again after that time. A notification in each transaction would have all commits wait for each other.';

CREATE FUNCTION uuid_v7_floor(at timestamptz) RETURNS uuid
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    -- 48 bits: nothing before 1970, nothing after 10889.
    RETURN (lpad(to_hex(least(greatest((extract(epoch FROM at) * 1000)::bigint, 0), 281474976710655)), 12, '0') || '00000000000000000000')::uuid;
END $$;
COMMENT ON FUNCTION uuid_v7_floor(timestamptz) IS 'The smallest UUID of this moment: the bound of a partition or of a listing.';

CREATE FUNCTION uuid_v7_time(id uuid) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN to_timestamp(('x' || lpad(left(replace(id::text, '-', ''), 12), 16, '0'))::bit(64)::bigint / 1000.0);
END $$;
COMMENT ON FUNCTION uuid_v7_time(uuid) IS 'The moment inside a UUID of version 7, in milliseconds.';

CREATE TABLE weeks (
    feature   text        NOT NULL,
    starts    timestamptz NOT NULL,
    ends      timestamptz NOT NULL,
    suffix    text        NOT NULL,
    state     text        NOT NULL DEFAULT 'open',
    note      text,
    looked_at timestamptz,
    CONSTRAINT weeks_pkey PRIMARY KEY (feature, starts),
    CONSTRAINT weeks_suffix_key UNIQUE (feature, suffix),
    CONSTRAINT weeks_in_order CHECK (starts < ends),
    CONSTRAINT weeks_state_known CHECK (state IN ('open', 'leaving')),
    CONSTRAINT weeks_leaving_has_reason CHECK ((state = 'leaving') = (note IS NOT NULL)),
    CONSTRAINT weeks_leaving_was_looked_at CHECK (state = 'open' OR looked_at IS NOT NULL)
);
COMMENT ON TABLE weeks IS 'The weekly partitions that there are, and how each stands. Bounded by: the weeks that have partitions; a row goes with them.';
COMMENT ON COLUMN weeks.feature IS 'Whose tables: queues or hub.';
COMMENT ON COLUMN weeks.starts IS 'The time inside the first id that belongs into it.';
COMMENT ON COLUMN weeks.ends IS 'The time inside the first id that does not any more. A week is cut into pieces when more lay in the default partition than may be moved at once.';
COMMENT ON COLUMN weeks.suffix IS 'The end of the names of its partitions, such as 2026_47.';
COMMENT ON COLUMN weeks.state IS 'open while its time is not over; leaving once it is, and something keeps it.';
COMMENT ON COLUMN weeks.note IS 'What kept it when it was last to be dropped.';
COMMENT ON COLUMN weeks.looked_at IS 'When that was.';

CREATE FUNCTION make_week(feature text, tables text[], starts timestamptz, ends timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    floor   uuid := uuid_v7_floor(starts);
    ceiling uuid := uuid_v7_floor(ends);
    suffix  text := to_char(starts AT TIME ZONE 'UTC', 'IYYY_IW');
    parent  text;
    names   text;
    storage text;
    count   bigint;
    moved   bigint := 0;
BEGIN
    IF ends - starts <> interval '7 days' THEN
        suffix := suffix || to_char(starts AT TIME ZONE 'UTC', '_IDHH24MISSMS');
    END IF;
    -- Who else makes it waits here, and then finds it made.
    INSERT INTO weeks AS w (feature, starts, ends, suffix) VALUES (feature, starts, ends, suffix)
    ON CONFLICT ON CONSTRAINT weeks_pkey DO NOTHING;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- Made beside the table and attached: that leaves the locks for the end.
    FOREACH parent IN ARRAY tables LOOP
        -- A partitioned table has no storage parameters of its own; its default partition shows how to store the others.
        SELECT coalesce('WITH (' || array_to_string(c.reloptions, ', ') || ')', '') INTO storage
        FROM pg_class AS c WHERE c.oid = (parent || '_default')::regclass;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL EXCLUDING COMMENTS) %s', parent || '_' || suffix, parent, storage);
    END LOOP;
    -- A statement that knows which partitions there are, and then waits for the default one while its rows move, would
    -- find them in neither: it has to wait before that, for the table itself. Nor may it store there what is not its any more.
    FOREACH parent IN ARRAY tables LOOP
        EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', parent);
    END LOOP;
    FOREACH parent IN ARRAY tables LOOP
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    END LOOP;
    FOREACH parent IN ARRAY tables LOOP
        SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO names
        FROM pg_attribute AS a
        WHERE a.attrelid = parent::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
        -- What is attached must find none of its rows in the default partition.
        EXECUTE format(
            'WITH strays AS (DELETE FROM %I WHERE id >= $1 AND id < $2 RETURNING %s) INSERT INTO %I (%2$s) SELECT * FROM strays',
            parent || '_default', names, parent || '_' || suffix) USING floor, ceiling;
        GET DIAGNOSTICS count = ROW_COUNT;
        moved := moved + count;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, parent || '_' || suffix, floor, ceiling);
    END LOOP;
    RETURN moved;
END $$;
COMMENT ON FUNCTION make_week(text, text[], timestamptz, timestamptz) IS 'Makes the partitions of a week (or a piece of one) of a feature''s tables, whose ids are UUIDv7, and moves into them what lies in the default partitions; returns how many rows. None if the week is there.';

CREATE FUNCTION drop_week(feature text, tables text[], owners text[], starts timestamptz, kept_owners integer[], kept uuid[]) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    suffix text;
    names  text;
    count  bigint;
    moved  bigint := 0;
BEGIN
    DELETE FROM weeks AS w WHERE w.feature = feature AND w.starts = starts RETURNING w.suffix INTO STRICT suffix;
    FOR n IN 1 .. cardinality(tables) LOOP
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', tables[n], tables[n] || '_' || suffix);
        IF cardinality(kept) > 0 THEN
            SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO names
            FROM pg_attribute AS a
            WHERE a.attrelid = tables[n]::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
            EXECUTE format(
                'INSERT INTO %I (%s) SELECT %2$s FROM %I AS old JOIN unnest($1, $2) AS kept (owner_of_row, id_of_row) ON old.id = id_of_row %s',
                tables[n] || '_default', names, tables[n] || '_' || suffix,
                CASE WHEN owners[n] <> '' THEN format('AND old.%I = owner_of_row', owners[n]) END)
                USING kept_owners, kept;
            GET DIAGNOSTICS count = ROW_COUNT;
            moved := moved + count;
        END IF;
        EXECUTE format('DROP TABLE %I', tables[n] || '_' || suffix);
    END LOOP;
    RETURN moved;
END $$;
COMMENT ON FUNCTION drop_week(text, text[], text[], timestamptz, integer[], uuid[]) IS 'Drops the partitions of a week, which the caller has locked, and keeps these rows of it in the default partitions; returns how many. An owner is the column that leads the primary key before the id, if there is one.';

CREATE FUNCTION readable_json(value json) RETURNS json
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE
        WHEN value::text ~ '\\u(0000|[dD][89a-fA-F])' THEN regexp_replace(
            value::text,
            '(?<!\\)((?:\\\\)*)\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})',
            '\1\\ufffd',
            'g'
        )::json
        ELSE value
    END
$$;
COMMENT ON FUNCTION readable_json(json) IS 'The same JSON with U+FFFD in the place of every escape that no text of PostgreSQL can hold (U+0000, halves of surrogate pairs), of pairs too: so that its members can be asked for by ->, which looks at every string on its way.';
