-- The hub: messages of stores, routed by mappings to services of endpoints, delivered until it is done.

COMMENT ON COLUMN lanes.kind IS 'The consumer that runs its items: queue, job, endpoint (deliveries), router (messages to be routed) or poller (runs of storefront pollers).';
COMMENT ON COLUMN duties.name IS 'The duty: retention, jobs, or hub.';

CREATE TYPE hub_message_state AS ENUM ('pending', 'routed', 'unrouted', 'parked');
COMMENT ON TYPE hub_message_state IS 'Where a message of the hub stands: to be routed soon, sent to at least one mapping, wanted by none, or kept aside with a reason.';
CREATE TYPE delivery_status AS ENUM ('PENDING', 'COMPLETE', 'ERROR', 'SKIPPED');
COMMENT ON TYPE delivery_status IS 'The stored words of a delivery; INPROGRESS is a PENDING one whose lease is there. ERROR is parked: kept until somebody decides. SKIPPED is a duplicate.';
CREATE TYPE attempt_verdict AS ENUM ('delivered', 'failed', 'deferred', 'returned', 'lost');
COMMENT ON TYPE attempt_verdict IS 'What an attempt came to: taken by the endpoint, to be tried again by backoff, put off by the endpoint itself, given back by a worker that was told to stop, or lost with its worker: the reclaim wrote that, and nobody knows what the endpoint said.';
CREATE TYPE log_level AS ENUM ('info', 'warn', 'error');
COMMENT ON TYPE log_level IS 'The three levels of a notification.';

CREATE TABLE stores (
    id         integer GENERATED ALWAYS AS IDENTITY,
    name       text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stores_pkey PRIMARY KEY (id),
    CONSTRAINT stores_name_key UNIQUE (name),
    CONSTRAINT stores_name_grammar CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$' AND name NOT IN ('system', 'queue', 'hub', 'job'))
);
COMMENT ON TABLE stores IS 'The tenants of the hub. A store is made by the first thing that is put or pushed into it. Bounded by: the names that whoever has a role for them used.';
COMMENT ON COLUMN stores.id IS 'The store.';
COMMENT ON COLUMN stores.name IS 'Its name in the API. Names that would make a store''s roles global ones are refused.';
COMMENT ON COLUMN stores.created_at IS 'When it was made.';

CREATE TABLE endpoints (
    id            integer     NOT NULL,
    store_id      integer     NOT NULL,
    name          text        NOT NULL,
    definition    json        NOT NULL,
    token         bytea,
    secrets       bytea,
    wire_secrets  bytea,
    former        bytea,
    key_id        text,
    catalogue     json,
    disabled_at   timestamptz,
    version       bigint      NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT endpoints_pkey PRIMARY KEY (id),
    CONSTRAINT endpoints_name_key UNIQUE (store_id, name),
    CONSTRAINT endpoints_lane_fkey FOREIGN KEY (id) REFERENCES lanes (id),
    CONSTRAINT endpoints_store_fkey FOREIGN KEY (store_id) REFERENCES stores (id),
    CONSTRAINT endpoints_name_grammar CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
    CONSTRAINT endpoints_sealed_with_a_key CHECK ((token IS NULL AND secrets IS NULL AND wire_secrets IS NULL AND former IS NULL) = (key_id IS NULL))
);
CREATE INDEX endpoints_version_idx ON endpoints (version);
COMMENT ON TABLE endpoints IS 'Servers that take messages. Bounded by: what is put; a row goes with its endpoint.';
COMMENT ON COLUMN endpoints.id IS 'The endpoint''s lane.';
COMMENT ON COLUMN endpoints.store_id IS 'Its store.';
COMMENT ON COLUMN endpoints.name IS 'Its name in the API.';
COMMENT ON COLUMN endpoints.definition IS 'The definition as it was put, with stand-ins for secrets: url, wire, sign, headers, events, options, concurrency, rate, timeout, breaker, disable, enabled. Where disable switched it off, enabled is false.';
COMMENT ON COLUMN endpoints.token IS 'The token it is sent, sealed (AES-256-GCM).';
COMMENT ON COLUMN endpoints.secrets IS 'Its signing secrets, a JSON array of strings, sealed.';
COMMENT ON COLUMN endpoints.wire_secrets IS 'The secrets of its headers and signatures, a JSON object {"sign": {header: [secret]}, "headers": {header: secret}}, sealed.';
COMMENT ON COLUMN endpoints.former IS 'The last tokens and secrets that these replaced, a JSON array of strings, sealed: to be blotted out where they are still quoted.';
COMMENT ON COLUMN endpoints.key_id IS 'Which key all are sealed with.';
COMMENT ON COLUMN endpoints.catalogue IS 'What its endpoint.json said when it was imported.';
COMMENT ON COLUMN endpoints.disabled_at IS 'When its failures switched it off, until somebody switches it on.';
COMMENT ON COLUMN endpoints.version IS 'The catalog''s revision at its last change.';
COMMENT ON COLUMN endpoints.created_at IS 'When it was first put.';
COMMENT ON COLUMN endpoints.updated_at IS 'When it was last put.';

CREATE TABLE endpoint_failures (
    lane       integer     NOT NULL,
    version    bigint      NOT NULL,
    failures   integer     NOT NULL,
    since      timestamptz NOT NULL DEFAULT now(),
    last_error text        NOT NULL,
    CONSTRAINT endpoint_failures_pkey PRIMARY KEY (lane),
    CONSTRAINT endpoint_failures_lane_fkey FOREIGN KEY (lane) REFERENCES lanes (id) ON DELETE CASCADE,
    CONSTRAINT endpoint_failures_positive CHECK (failures > 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE endpoint_failures IS 'Endpoints whose last attempts failed, as far as their definition says after which of them they are switched off. Bounded by: the endpoints with disable; a row goes with the next success, when the endpoint is put, and with its lane.';
COMMENT ON COLUMN endpoint_failures.lane IS 'The endpoint. Its lane outlives it, so that an attempt that ends late has something to refer to.';
COMMENT ON COLUMN endpoint_failures.version IS 'The version of the endpoint under which they were made: of another, they count no longer.';
COMMENT ON COLUMN endpoint_failures.failures IS 'Failed attempts in a row, over all services and processes.';
COMMENT ON COLUMN endpoint_failures.since IS 'When the first of them ended.';
COMMENT ON COLUMN endpoint_failures.last_error IS 'Why the last of them failed, without secrets.';

CREATE TABLE parameters (
    store_id   integer     NOT NULL,
    name       text        NOT NULL,
    data_type  text        NOT NULL,
    value      json,
    sealed     bytea,
    former     bytea,
    key_id     text,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT parameters_pkey PRIMARY KEY (store_id, name),
    CONSTRAINT parameters_store_fkey FOREIGN KEY (store_id) REFERENCES stores (id),
    CONSTRAINT parameters_name_length CHECK (length(name) BETWEEN 1 AND 255),
    CONSTRAINT parameters_data_type_known CHECK (data_type IN ('string', 'integer', 'float', 'boolean', 'list', 'password')),
    CONSTRAINT parameters_password_is_sealed CHECK ((data_type = 'password') = (sealed IS NOT NULL)),
    CONSTRAINT parameters_one_value CHECK ((value IS NULL) = (sealed IS NOT NULL)),
    CONSTRAINT parameters_sealed_with_a_key CHECK ((sealed IS NULL AND former IS NULL) = (key_id IS NULL))
);
COMMENT ON TABLE parameters IS 'What the services of a store''s mappings need to know: keys, settings, lookup tables, bookmarks. Bounded by: what is put, and the names that answers set.';
COMMENT ON COLUMN parameters.store_id IS 'The store.';
COMMENT ON COLUMN parameters.name IS 'Its name, as it is sent.';
COMMENT ON COLUMN parameters.data_type IS 'string, integer, float, boolean, list, or password: sealed, and never shown again.';
COMMENT ON COLUMN parameters.value IS 'Its value, as it was put; null for a password.';
COMMENT ON COLUMN parameters.sealed IS 'A password''s value as JSON, sealed (AES-256-GCM).';
COMMENT ON COLUMN parameters.former IS 'The last passwords that it was before, a JSON array of strings, each JSON, sealed: to be blotted out where they are still quoted.';
COMMENT ON COLUMN parameters.key_id IS 'Which key both are sealed with.';
COMMENT ON COLUMN parameters.updated_at IS 'When it was last put, by hand or by an answer.';

CREATE TABLE mappings (
    id          integer     NOT NULL,
    store_id    integer     NOT NULL,
    name        text        NOT NULL,
    endpoint_id integer     NOT NULL,
    definition  json        NOT NULL,
    enabled     boolean     NOT NULL DEFAULT true,
    of_endpoint boolean     NOT NULL DEFAULT false,
    version     bigint      NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz,
    sends_to    integer GENERATED ALWAYS AS (CASE WHEN deleted_at IS NULL THEN endpoint_id END) STORED,
    CONSTRAINT mappings_pkey PRIMARY KEY (id),
    CONSTRAINT mappings_series_fkey FOREIGN KEY (id) REFERENCES series (id),
    CONSTRAINT mappings_store_fkey FOREIGN KEY (store_id) REFERENCES stores (id),
    CONSTRAINT mappings_endpoint_fkey FOREIGN KEY (sends_to) REFERENCES endpoints (id),
    CONSTRAINT mappings_name_grammar CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$')
);
CREATE UNIQUE INDEX mappings_name_idx ON mappings (store_id, name) WHERE deleted_at IS NULL;
CREATE INDEX mappings_version_idx ON mappings (version);
COMMENT ON TABLE mappings IS 'Which messages of a store go to which service of which endpoint, and how. Bounded by: what is put; a deleted one is kept until the weeks of its deliveries are gone.';
COMMENT ON COLUMN mappings.id IS 'The mapping, and the series of its lines. One that is deleted and made again has another.';
COMMENT ON COLUMN mappings.store_id IS 'Its store.';
COMMENT ON COLUMN mappings.name IS 'Its name in the API.';
COMMENT ON COLUMN mappings.endpoint_id IS 'The endpoint of its service. That of a deleted mapping may be gone.';
COMMENT ON COLUMN mappings.definition IS 'The definition as it was put: endpoint, service, messages, parameters, filters, identifiers, options, schedule, enabled.';
COMMENT ON COLUMN mappings.enabled IS 'Whether its deliveries run; those of a mapping that is not are held.';
COMMENT ON COLUMN mappings.of_endpoint IS 'Whether its endpoint''s definition made it (events): it has that name, and changes and goes with that.';
COMMENT ON COLUMN mappings.version IS 'The catalog''s revision at its last change.';
COMMENT ON COLUMN mappings.created_at IS 'When it was first put.';
COMMENT ON COLUMN mappings.updated_at IS 'When it was last put.';
COMMENT ON COLUMN mappings.deleted_at IS 'When it was deleted; its deliveries stay to be read.';
COMMENT ON COLUMN mappings.sends_to IS 'The endpoint that cannot be deleted because of it; null once the mapping was deleted.';

CREATE TABLE learned_parameters (
    mapping_id integer NOT NULL,
    name       text    NOT NULL,
    CONSTRAINT learned_parameters_pkey PRIMARY KEY (mapping_id, name),
    CONSTRAINT learned_parameters_mapping_fkey FOREIGN KEY (mapping_id) REFERENCES mappings (id) ON DELETE CASCADE
);
COMMENT ON TABLE learned_parameters IS 'Parameters that a mapping is sent since its own answers set them (a poller''s bookmark), beside those its definition names. Bounded by: their mapping: they go when it is deleted, one row a name that its answers set.';
COMMENT ON COLUMN learned_parameters.mapping_id IS 'The mapping.';
COMMENT ON COLUMN learned_parameters.name IS 'The parameter of its store.';

CREATE TABLE hub_messages (
    store_id   integer           NOT NULL,
    hop        smallint          NOT NULL DEFAULT 0,
    state      hub_message_state NOT NULL,
    id         uuid              NOT NULL,
    message    text              NOT NULL,
    payload    json              NOT NULL,
    parent_id  uuid,
    delivery   uuid,
    root_id    uuid,
    reason     text,
    lineage    json,
    request_id text,
    trace      bytea,
    CONSTRAINT hub_messages_pkey PRIMARY KEY (store_id, id),
    CONSTRAINT hub_messages_message_length CHECK (length(message) BETWEEN 1 AND 255),
    CONSTRAINT hub_messages_parked_has_reason CHECK ((state = 'parked') = (reason IS NOT NULL)),
    CONSTRAINT hub_messages_hop_not_negative CHECK (hop >= 0),
    CONSTRAINT hub_messages_delivery_of_parent CHECK (delivery IS NULL OR parent_id IS NOT NULL),
    CONSTRAINT hub_messages_lineage_has_root CHECK (lineage IS NULL OR root_id IS NOT NULL),
    CONSTRAINT hub_messages_trace_is_one CHECK (is_trace(trace))
) PARTITION BY RANGE (id);
CREATE INDEX hub_messages_pending_idx ON hub_messages (id) WHERE state = 'pending';
CREATE INDEX hub_messages_parked_idx ON hub_messages (store_id, id) WHERE state = 'parked';
CREATE INDEX hub_messages_unrouted_idx ON hub_messages (store_id, id) WHERE state = 'unrouted';
CREATE INDEX hub_messages_parent_idx ON hub_messages (parent_id) WHERE parent_id IS NOT NULL;
COMMENT ON TABLE hub_messages IS 'Messages of the hub. Weekly partitions by the time inside the id. Bounded by: 30 days: weeks are dropped, what had to stay is deleted with the last of its deliveries.';
COMMENT ON COLUMN hub_messages.store_id IS 'The store.';
COMMENT ON COLUMN hub_messages.hop IS 'How many answers lie between it and a message that came from outside.';
COMMENT ON COLUMN hub_messages.state IS 'pending until it is routed; then routed, unrouted or parked.';
COMMENT ON COLUMN hub_messages.id IS 'UUIDv7: its time is when the message came in.';
COMMENT ON COLUMN hub_messages.message IS 'Its key, such as order:new.';
COMMENT ON COLUMN hub_messages.payload IS 'An object, as it was sent.';
COMMENT ON COLUMN hub_messages.parent_id IS 'The message whose delivery was answered with this one.';
COMMENT ON COLUMN hub_messages.delivery IS 'That delivery.';
COMMENT ON COLUMN hub_messages.root_id IS 'The message from outside that it comes of, over however many answers; null when it came from outside itself.';
COMMENT ON COLUMN hub_messages.reason IS 'Why it is parked.';
COMMENT ON COLUMN hub_messages.lineage IS 'What it has come through since its root, or since the last of its ancestors that was to wait: a list of [mapping, key], one for each delivery; null when that is none.';
COMMENT ON COLUMN hub_messages.request_id IS 'The x-request-id of the request that pushed it, so that the line of a delivery that is parked can name it; null when none did, and for an answer, whose root has it.';
COMMENT ON COLUMN hub_messages.trace IS 'The W3C trace context of what made it: of the request that pushed it, or of the attempt whose answer brought it; see is_trace. Null when there was none.';
CREATE TABLE hub_messages_default PARTITION OF hub_messages DEFAULT;

CREATE TABLE hub_descendants (
    root_id    uuid        NOT NULL,
    count      bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT hub_descendants_pkey PRIMARY KEY (root_id),
    CONSTRAINT hub_descendants_count_positive CHECK (count > 0)
) WITH (fillfactor = 70);
CREATE INDEX hub_descendants_created_at_idx ON hub_descendants (created_at);
COMMENT ON TABLE hub_descendants IS 'How many messages have come of each message from outside: one beyond the budget is sent to nobody by itself. Bounded by: 30 days after the last of them came.';
COMMENT ON COLUMN hub_descendants.root_id IS 'The message from outside.';
COMMENT ON COLUMN hub_descendants.count IS 'How many messages answers have made of it, those beyond the budget too.';
COMMENT ON COLUMN hub_descendants.created_at IS 'When the first came.';
COMMENT ON COLUMN hub_descendants.last_at IS 'When the last came.';

CREATE TABLE hub_idempotency_keys (
    store_id   integer     NOT NULL,
    key        text        NOT NULL,
    digest     bytea       NOT NULL,
    message_id uuid        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT hub_idempotency_keys_pkey PRIMARY KEY (store_id, key)
);
CREATE INDEX hub_idempotency_keys_created_at_idx ON hub_idempotency_keys (created_at);
COMMENT ON TABLE hub_idempotency_keys IS 'Idempotency-Key of pushes into a store. Bounded by: 30 days.';
COMMENT ON COLUMN hub_idempotency_keys.store_id IS 'The store.';
COMMENT ON COLUMN hub_idempotency_keys.key IS 'The key.';
COMMENT ON COLUMN hub_idempotency_keys.digest IS 'SHA-256 of the body it was sent with: with another body it is refused.';
COMMENT ON COLUMN hub_idempotency_keys.message_id IS 'The message it made.';
COMMENT ON COLUMN hub_idempotency_keys.created_at IS 'When it was used.';

CREATE TABLE deliveries (
    store_id        integer         NOT NULL,
    mapping_id      integer         NOT NULL,
    attempts        integer         NOT NULL DEFAULT 0,
    status          delivery_status NOT NULL DEFAULT 'PENDING',
    business_error  boolean         NOT NULL DEFAULT false,
    id              uuid            NOT NULL,
    message_id      uuid            NOT NULL,
    next_attempt_at timestamptz,
    finished_at     timestamptz,
    archived_at     timestamptz,
    retry_from      timestamptz     NOT NULL DEFAULT now(),
    line            bytea,
    returned_by     uuid,
    continue_url    text,
    last_error      text,
    parked_by       text,
    parked          boolean GENERATED ALWAYS AS (CASE WHEN status = 'ERROR' THEN true END) STORED,
    skipped         boolean GENERATED ALWAYS AS (CASE WHEN status = 'SKIPPED' THEN true END) STORED,
    late            boolean,
    apart           boolean,
    CONSTRAINT deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT deliveries_finished_has_time CHECK ((status = 'PENDING') = (finished_at IS NULL)),
    CONSTRAINT deliveries_waits_while_pending CHECK (next_attempt_at IS NULL OR status = 'PENDING'),
    CONSTRAINT deliveries_archived_is_parked CHECK (archived_at IS NULL OR status = 'ERROR'),
    CONSTRAINT deliveries_error_has_reason CHECK (status <> 'ERROR' OR last_error IS NOT NULL),
    CONSTRAINT deliveries_parked_says_by_what CHECK ((status = 'ERROR') = (parked_by IS NOT NULL)),
    CONSTRAINT deliveries_parked_by_known CHECK (parked_by IN ('max_attempts', 'max_age', 'retries_not_allowed', 'final_answer', 'loop', 'descendants', 'mapping_deleted', 'message_gone', 'archived', 'again')),
    CONSTRAINT deliveries_business_error_is_delivered CHECK (NOT business_error OR status = 'COMPLETE'),
    CONSTRAINT deliveries_attempts_not_negative CHECK (attempts >= 0)
) PARTITION BY RANGE (id);
CREATE INDEX deliveries_message_idx ON deliveries (message_id);
CREATE INDEX deliveries_store_idx ON deliveries (store_id, id);
CREATE INDEX deliveries_parked_idx ON deliveries (store_id, id) WHERE parked;
CREATE INDEX deliveries_parked_mapping_idx ON deliveries (mapping_id, id) WHERE parked;
CREATE INDEX deliveries_skipped_idx ON deliveries (store_id, id) WHERE skipped;
CREATE INDEX deliveries_late_idx ON deliveries (id) WHERE late;
CREATE INDEX deliveries_apart_idx ON deliveries (message_id) WHERE apart;
COMMENT ON TABLE deliveries IS 'One message for one mapping. Weekly partitions by the time inside the id. No index knows the status, and pages are filled to less than a half: so the row that says COMPLETE finds place beside the one that said PENDING, and no index has to learn of it (a heap-only update). What is unfinished, unfinished_deliveries tells. Bounded by: 30 days after their end, with the messages; a parked one stays until somebody archives it.';
COMMENT ON COLUMN deliveries.store_id IS 'The store.';
COMMENT ON COLUMN deliveries.mapping_id IS 'The mapping.';
COMMENT ON COLUMN deliveries.attempts IS 'How many attempts have ended, whatever they came to.';
COMMENT ON COLUMN deliveries.status IS 'PENDING until it ends; a lease makes it INPROGRESS.';
COMMENT ON COLUMN deliveries.business_error IS 'The endpoint took it and answered with notification:error: done, and never tried again.';
COMMENT ON COLUMN deliveries.id IS 'UUIDv7, made in the transaction that stores or routes the message.';
COMMENT ON COLUMN deliveries.message_id IS 'The message.';
COMMENT ON COLUMN deliveries.next_attempt_at IS 'When it is tried again; null when it is due, runs, is held, waits in a line or has ended.';
COMMENT ON COLUMN deliveries.finished_at IS 'When it ended.';
COMMENT ON COLUMN deliveries.archived_at IS 'When somebody decided that it is not wanted any more.';
COMMENT ON COLUMN deliveries.retry_from IS 'From when max_age counts: when it was made, or last run again by hand.';
COMMENT ON COLUMN deliveries.line IS 'SHA-256 of the values that put it in a line, when its mapping is serial; only the head of a line runs.';
COMMENT ON COLUMN deliveries.returned_by IS 'The claim that last gave it back without an attempt (held, rate limit, another endpoint): so that it is not given back twice.';
COMMENT ON COLUMN deliveries.continue_url IS 'Where to ask on: the update_url of an asynchronous answer.';
COMMENT ON COLUMN deliveries.last_error IS 'Why the last attempt failed, or why it is parked or skipped.';
COMMENT ON COLUMN deliveries.parked_by IS 'The rule that parked it, written by who parks: max_attempts, max_age, retries_not_allowed, final_answer, loop, descendants, mapping_deleted or message_gone; archived, before it was delivered; again, while it is taken to be delivered once more.';
COMMENT ON COLUMN deliveries.parked IS 'True while the status is ERROR, otherwise null: what an index may know without learning of every delivery that is completed.';
COMMENT ON COLUMN deliveries.skipped IS 'True while the status is SKIPPED, otherwise null: as parked.';
COMMENT ON COLUMN deliveries.late IS 'True when it was delivered a day or more after it was made, otherwise null: what may have to stay when its week goes.';
COMMENT ON COLUMN deliveries.apart IS 'True when its message is of another week, otherwise null: that message stays as long as this does.';
-- The partitions that are made later are stored as this one.
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT WITH (fillfactor = 45);

CREATE TABLE delivery_attempts (
    number      integer         NOT NULL,
    status_code smallint,
    verdict     attempt_verdict NOT NULL,
    id          uuid            NOT NULL,
    lease       uuid            NOT NULL,
    started_at  timestamptz     NOT NULL,
    finished_at timestamptz     NOT NULL DEFAULT now(),
    duration    interval        NOT NULL,
    endpoint_id integer         NOT NULL,
    cause       text,
    error       text,
    body        text,
    CONSTRAINT delivery_attempts_pkey PRIMARY KEY (id, lease),
    CONSTRAINT delivery_attempts_cause_has_failed CHECK (cause IS NULL OR verdict = 'failed'),
    CONSTRAINT delivery_attempts_failed_has_error CHECK (verdict NOT IN ('failed', 'lost') OR error IS NOT NULL)
) PARTITION BY RANGE (id);
COMMENT ON TABLE delivery_attempts IS 'Each HTTP POST of a delivery. Partitioned as deliveries, and dropped with them. Bounded by: their delivery: they go with it.';
COMMENT ON COLUMN delivery_attempts.number IS 'Counted from 1 over the delivery''s whole life.';
COMMENT ON COLUMN delivery_attempts.status_code IS 'The HTTP status of the answer; null when there was none.';
COMMENT ON COLUMN delivery_attempts.verdict IS 'What it came to.';
COMMENT ON COLUMN delivery_attempts.id IS 'The delivery.';
COMMENT ON COLUMN delivery_attempts.lease IS 'The claim that ran it; with the delivery it names the attempt for ever.';
COMMENT ON COLUMN delivery_attempts.started_at IS 'When it was claimed.';
COMMENT ON COLUMN delivery_attempts.finished_at IS 'When its end was written.';
COMMENT ON COLUMN delivery_attempts.duration IS 'From the request to the end of the answer.';
COMMENT ON COLUMN delivery_attempts.endpoint_id IS 'Who was asked.';
COMMENT ON COLUMN delivery_attempts.cause IS 'Why it failed, in one word (dns, refused, not_json, …); null when it did not, or not by the endpoint''s doing.';
COMMENT ON COLUMN delivery_attempts.error IS 'Why it failed, in coarse words.';
COMMENT ON COLUMN delivery_attempts.body IS 'The beginning of the answer, with every parameter and token blotted out.';
CREATE TABLE delivery_attempts_default PARTITION OF delivery_attempts DEFAULT;

CREATE TABLE delivered_identifiers (
    mapping_id  integer     NOT NULL,
    digest      bytea       NOT NULL,
    delivery_id uuid        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT delivered_identifiers_pkey PRIMARY KEY (mapping_id, digest)
);
CREATE INDEX delivered_identifiers_created_at_idx ON delivered_identifiers (created_at);
COMMENT ON TABLE delivered_identifiers IS 'The identifiers a mapping has been sent: the same values go to it at most once. Bounded by: 90 days.';
COMMENT ON COLUMN delivered_identifiers.mapping_id IS 'The mapping.';
COMMENT ON COLUMN delivered_identifiers.digest IS 'SHA-256 of the names and values.';
COMMENT ON COLUMN delivered_identifiers.delivery_id IS 'The delivery that has them.';
COMMENT ON COLUMN delivered_identifiers.created_at IS 'When that was made.';

CREATE TABLE held_deliveries (
    mapping_id  integer NOT NULL,
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    delivery_id uuid    NOT NULL,
    CONSTRAINT held_deliveries_pkey PRIMARY KEY (mapping_id, seq),
    CONSTRAINT held_deliveries_delivery_key UNIQUE (delivery_id)
);
COMMENT ON TABLE held_deliveries IS 'Deliveries of mappings that are switched off, in their order; switching on sends them. Bounded by: what waits for mappings that are switched off; switching on, or deleting the mapping, empties it.';
COMMENT ON COLUMN held_deliveries.mapping_id IS 'The mapping.';
COMMENT ON COLUMN held_deliveries.seq IS 'The order.';
COMMENT ON COLUMN held_deliveries.delivery_id IS 'The delivery.';

CREATE TABLE log_entries (
    id             bigint GENERATED ALWAYS AS IDENTITY,
    store_id       integer     NOT NULL,
    level          log_level   NOT NULL,
    subject        text        NOT NULL,
    description    text        NOT NULL DEFAULT '',
    occurrences    integer     NOT NULL DEFAULT 1,
    message_id     uuid,
    reference_type text,
    reference_id   text,
    digest         bytea       NOT NULL,
    first_seen     timestamptz NOT NULL DEFAULT now(),
    last_seen      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT log_entries_pkey PRIMARY KEY (id),
    CONSTRAINT log_entries_digest_key UNIQUE (store_id, digest),
    CONSTRAINT log_entries_occurrences_positive CHECK (occurrences > 0)
) WITH (fillfactor = 80);
CREATE INDEX log_entries_message_idx ON log_entries (message_id, id) WHERE message_id IS NOT NULL;
CREATE INDEX log_entries_level_idx ON log_entries (store_id, level, id);
CREATE INDEX log_entries_reference_idx ON log_entries (store_id, reference_id, id) WHERE reference_id IS NOT NULL;
CREATE INDEX log_entries_first_seen_idx ON log_entries (first_seen);
COMMENT ON TABLE log_entries IS 'What endpoints and the hub have to say to people: the events tab. Bounded by: 30 days after they were last repeated.';
COMMENT ON COLUMN log_entries.id IS 'The entry.';
COMMENT ON COLUMN log_entries.store_id IS 'The store.';
COMMENT ON COLUMN log_entries.level IS 'How bad it is.';
COMMENT ON COLUMN log_entries.subject IS 'In a few words.';
COMMENT ON COLUMN log_entries.description IS 'In more.';
COMMENT ON COLUMN log_entries.occurrences IS 'How often the same was said about the same delivery.';
COMMENT ON COLUMN log_entries.message_id IS 'The message it is about.';
COMMENT ON COLUMN log_entries.reference_type IS 'What else it is about: delivery, endpoint, or a word of the endpoint''s own, such as order.';
COMMENT ON COLUMN log_entries.reference_id IS 'Which one.';
COMMENT ON COLUMN log_entries.digest IS 'SHA-256 of what makes it the same: delivery or origin, level, subject, description, reference.';
COMMENT ON COLUMN log_entries.first_seen IS 'When it was first said.';
COMMENT ON COLUMN log_entries.last_seen IS 'When it was last said.';

CREATE TABLE pollers (
    id         integer     NOT NULL,
    store_id   integer     NOT NULL,
    name       text        NOT NULL,
    definition json        NOT NULL,
    token      bytea,
    key_id     text,
    version    bigint      NOT NULL,
    item       uuid        NOT NULL DEFAULT uuid_v7(),
    queued     boolean     NOT NULL DEFAULT false,
    failures   integer     NOT NULL DEFAULT 0,
    last_run   timestamptz,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pollers_pkey PRIMARY KEY (id),
    CONSTRAINT pollers_name_key UNIQUE (store_id, name),
    CONSTRAINT pollers_item_key UNIQUE (item),
    CONSTRAINT pollers_lane_fkey FOREIGN KEY (id) REFERENCES lanes (id),
    CONSTRAINT pollers_store_fkey FOREIGN KEY (store_id) REFERENCES stores (id),
    CONSTRAINT pollers_name_grammar CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
    CONSTRAINT pollers_sealed_with_a_key CHECK ((token IS NULL) = (key_id IS NULL)),
    CONSTRAINT pollers_failures_not_negative CHECK (failures >= 0)
) WITH (fillfactor = 70);
CREATE INDEX pollers_version_idx ON pollers (version);
COMMENT ON TABLE pollers IS 'Storefront pollers: they read an API and tell what changed in it. Bounded by: what is put; a row goes with its poller.';
COMMENT ON COLUMN pollers.id IS 'The poller''s lane.';
COMMENT ON COLUMN pollers.store_id IS 'Its store.';
COMMENT ON COLUMN pollers.name IS 'Its name in the API.';
COMMENT ON COLUMN pollers.definition IS 'The definition as it was put, without the token: api, schedule, collections.';
COMMENT ON COLUMN pollers.token IS 'The token it sends, sealed (AES-256-GCM).';
COMMENT ON COLUMN pollers.key_id IS 'Which key it is sealed with.';
COMMENT ON COLUMN pollers.version IS 'The catalog''s revision at its last change.';
COMMENT ON COLUMN pollers.item IS 'The name of its run in dispatch and leases. Each attempt has another, so that its end is written once.';
COMMENT ON COLUMN pollers.queued IS 'Whether a run waits or goes on: a tick that finds it so makes no second one.';
COMMENT ON COLUMN pollers.failures IS 'Runs that failed since the last that did not.';
COMMENT ON COLUMN pollers.last_run IS 'When a run was last done.';
COMMENT ON COLUMN pollers.last_error IS 'Why the last run failed, or what it left out; null when there is nothing to say.';
COMMENT ON COLUMN pollers.created_at IS 'When it was first put.';
COMMENT ON COLUMN pollers.updated_at IS 'When it was last put.';

CREATE TABLE poller_bookmarks (
    poller_id  integer NOT NULL,
    collection text    NOT NULL,
    since      text    NOT NULL,
    CONSTRAINT poller_bookmarks_pkey PRIMARY KEY (poller_id, collection),
    CONSTRAINT poller_bookmarks_poller_fkey FOREIGN KEY (poller_id) REFERENCES pollers (id) ON DELETE CASCADE
);
COMMENT ON TABLE poller_bookmarks IS 'Up to where a poller has read each collection. Bounded by: the collections that their poller has read; they go with it.';
COMMENT ON COLUMN poller_bookmarks.poller_id IS 'The poller.';
COMMENT ON COLUMN poller_bookmarks.collection IS 'The collection.';
COMMENT ON COLUMN poller_bookmarks.since IS 'What it sends as since, as the storefront gave it.';

CREATE TABLE poller_snapshots (
    poller_id  integer     NOT NULL,
    collection text        NOT NULL,
    record_id  text        NOT NULL,
    record     json        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT poller_snapshots_pkey PRIMARY KEY (poller_id, collection, record_id),
    CONSTRAINT poller_snapshots_poller_fkey FOREIGN KEY (poller_id) REFERENCES pollers (id) ON DELETE CASCADE
);
COMMENT ON TABLE poller_snapshots IS 'Each record as a poller last saw it: what a change is measured against. Bounded by: the records that their poller has seen, one row each; they go with it.';
COMMENT ON COLUMN poller_snapshots.poller_id IS 'The poller.';
COMMENT ON COLUMN poller_snapshots.collection IS 'The collection, such as orders.';
COMMENT ON COLUMN poller_snapshots.record_id IS 'The record''s id as text.';
COMMENT ON COLUMN poller_snapshots.record IS 'The record.';
COMMENT ON COLUMN poller_snapshots.updated_at IS 'When it was last seen to change.';

-- Messages that SQL publishes, and those that wait for a time, are routed by a worker.
INSERT INTO lanes (kind) VALUES ('router');

-- Only the default partitions are walked by the id alone, and asked for what is left of a mapping.
CREATE INDEX deliveries_default_mapping_walk_idx ON deliveries_default (mapping_id);
CREATE INDEX hub_messages_default_walk_idx ON hub_messages_default (id);

SELECT make_week('hub', ARRAY['delivery_attempts', 'deliveries', 'hub_messages'], monday, monday + interval '7 days')
FROM generate_series(
    date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC', now() + interval '14 days', interval '7 days') AS monday;

CREATE VIEW unfinished_deliveries AS
SELECT item AS id FROM dispatch WHERE lane IN (SELECT id FROM lanes WHERE kind = 'endpoint')
UNION
SELECT item FROM scheduled WHERE lane IN (SELECT id FROM lanes WHERE kind = 'endpoint')
UNION
SELECT unnest(items) FROM leases WHERE holder IS NULL AND lane IN (SELECT id FROM lanes WHERE kind = 'endpoint')
UNION
SELECT delivery_id FROM held_deliveries
UNION
SELECT item FROM line_waits;
COMMENT ON VIEW unfinished_deliveries IS 'Every delivery that is PENDING is in one of these places; what is there may have ended all the same (its lease holds others, or somebody parked it): ask for its status.';

CREATE VIEW delivery_lanes AS
SELECT store_id, id AS lane
FROM endpoints
UNION ALL
SELECT stores.id, lanes.id
FROM stores
CROSS JOIN lanes
WHERE lanes.kind = 'endpoint' AND lanes.removed_at IS NOT NULL;
COMMENT ON VIEW delivery_lanes IS 'The lanes in which deliveries of a store are held: those of its endpoints, and those of endpoints that were deleted, whosoever they were: a process that does not know yet may claim there.';

CREATE VIEW delivery_states AS
SELECT
    d.id, d.store_id, d.mapping_id, d.message_id,
    CASE
        WHEN d.status = 'PENDING' AND EXISTS (
            SELECT FROM leases AS l
            WHERE l.lane = ANY (ARRAY(SELECT e.lane FROM delivery_lanes AS e WHERE e.store_id = d.store_id))
                AND l.holder IS NULL AND d.id = ANY (l.items)
        ) THEN 'INPROGRESS'
        ELSE d.status::text
    END AS status,
    d.business_error, d.attempts, d.next_attempt_at, d.finished_at, d.archived_at, d.last_error, d.parked_by
FROM deliveries AS d;
COMMENT ON VIEW delivery_states IS 'Deliveries with their status in the words of the queues, and SKIPPED for a duplicate.';

CREATE FUNCTION publish(store text, message text, payload json DEFAULT '{}') RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_variable
DECLARE
    allowed boolean := require_grant('store', store);
    store_id integer;
    router integer;
    id uuid := uuid_v7();
BEGIN
    IF message !~ '^[A-Za-z0-9_-]+([.:][A-Za-z0-9_-]+)*$' OR length(message) > 255 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('%L is no message key such as order:new or invoice.created', message);
    END IF;
    IF message LIKE 'hub:%' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'keys that begin with hub: are the hub''s own';
    END IF;
    IF payload IS NULL OR json_typeof(payload) <> 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'payload must be an object';
    END IF;
    SELECT s.id INTO store_id FROM stores AS s WHERE s.name = store;
    IF NOT FOUND THEN
        INSERT INTO stores (name) VALUES (store) ON CONFLICT ON CONSTRAINT stores_name_key DO NOTHING;
        SELECT s.id INTO STRICT store_id FROM stores AS s WHERE s.name = store;
    END IF;
    SELECT l.id INTO STRICT router FROM lanes AS l WHERE l.kind = 'router';
    INSERT INTO hub_messages (store_id, state, id, message, payload, request_id, trace)
    VALUES (store_id, 'pending', id, message, payload, sql_request_id(), sql_trace());
    INSERT INTO dispatch (lane, rank, item) VALUES (router, 0, id);
    PERFORM ring(router);
    RETURN id;
END $$;
CREATE FUNCTION publish(store text, message text, payload text) RETURNS uuid
LANGUAGE sql
RETURN publish(store, message, payload::json);
COMMENT ON FUNCTION publish(text, text, text) IS 'As publish of json, which the text must be.';
CREATE FUNCTION publish(store text, message text, payload jsonb) RETURNS uuid
LANGUAGE sql
RETURN publish(store, message, payload::json);
COMMENT ON FUNCTION publish(text, text, jsonb) IS 'As publish of json.';
-- Whatever the caller's search path is, as for enqueue.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION publish(text, text, json) SET search_path = %I, pg_temp', current_schema());
END $$;
COMMENT ON FUNCTION publish(text, text, json) IS 'Gives a store a message in the caller''s own transaction: it exists when, and only when, that commits, and is routed to the mappings that want it right afterwards.';

-- The last migration: a function may be called by those alone to whom `postrider grant` gave it.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', current_schema());
END $$;
