-- When work may run, whatever it is: at which moments it comes by itself, limits and circuits of lanes, and lines of
-- items that run one after another.

CREATE TABLE rates (
    lane   integer     NOT NULL,
    due_at timestamptz NOT NULL,
    CONSTRAINT rates_pkey PRIMARY KEY (lane),
    CONSTRAINT rates_lane_fkey FOREIGN KEY (lane) REFERENCES lanes (id) ON DELETE CASCADE
) WITH (fillfactor = 50);
COMMENT ON TABLE rates IS 'Lanes with a rate limit, and the slots that they have given. Bounded by: the lanes that had a rate limit; a row goes with its lane.';
COMMENT ON COLUMN rates.lane IS 'The lane.';
COMMENT ON COLUMN rates.due_at IS 'When the next item may go (the theoretical arrival time of the generic cell rate algorithm).';

CREATE TABLE circuits (
    lane       integer NOT NULL,
    failures   integer NOT NULL DEFAULT 0,
    open_until timestamptz,
    told       boolean NOT NULL DEFAULT false,
    gone_at    timestamptz,
    changes    bigint  NOT NULL DEFAULT 0,
    CONSTRAINT circuits_pkey PRIMARY KEY (lane),
    CONSTRAINT circuits_lane_fkey FOREIGN KEY (lane) REFERENCES lanes (id) ON DELETE CASCADE,
    CONSTRAINT circuits_failures_not_negative CHECK (failures >= 0),
    CONSTRAINT circuits_told_while_open CHECK (NOT told OR open_until IS NOT NULL)
) WITH (fillfactor = 70);
COMMENT ON TABLE circuits IS 'Lanes whose items are sent to a server that may fail: one row an endpoint of the hub. Bounded by: the endpoints; a row goes with its lane.';
COMMENT ON COLUMN circuits.lane IS 'The lane.';
COMMENT ON COLUMN circuits.failures IS 'Attempts in a row that did not reach the server, over all processes.';
COMMENT ON COLUMN circuits.open_until IS 'The circuit is open until then: nothing is claimed from the lane; afterwards one item at a time tries whether the server is back. Null: closed.';
COMMENT ON COLUMN circuits.told IS 'Whether it was told that the server is failing, since the circuit was last closed: then it is told when it has recovered.';
COMMENT ON COLUMN circuits.gone_at IS 'When the server first answered 410; null again when an attempt succeeds.';
COMMENT ON COLUMN circuits.changes IS 'How often failures, open_until, gone_at or circuits of the lane''s parts have changed. It is no change of a definition: who loads an item of this lane compares it with what it knows.';

CREATE TABLE circuit_parts (
    lane       integer     NOT NULL,
    part       text        NOT NULL,
    failures   integer     NOT NULL,
    open_until timestamptz NOT NULL,
    told       boolean     NOT NULL DEFAULT false,
    probe      uuid,
    probed_at  timestamptz,
    CONSTRAINT circuit_parts_pkey PRIMARY KEY (lane, part),
    CONSTRAINT circuit_parts_circuit_fkey FOREIGN KEY (lane) REFERENCES circuits (lane) ON DELETE CASCADE,
    CONSTRAINT circuit_parts_failures_positive CHECK (failures > 0),
    CONSTRAINT circuit_parts_probe_has_time CHECK ((probe IS NULL) = (probed_at IS NULL))
);
COMMENT ON TABLE circuit_parts IS 'Parts of lanes whose circuits are not closed, such as services of an endpoint: they answer badly, or not in time, while their server is there. Whoever changes one has the row of its lane in circuits locked, and counts its changes up. Bounded by: the services of mappings that fail; a row goes when its circuit closes, with its lane, and when no mapping names its service any more.';
COMMENT ON COLUMN circuit_parts.lane IS 'The lane.';
COMMENT ON COLUMN circuit_parts.part IS 'The part: of an endpoint of the hub, the path below its URL that mappings name as their service.';
COMMENT ON COLUMN circuit_parts.failures IS 'Failed attempts since the last that was not, when the circuit last opened.';
COMMENT ON COLUMN circuit_parts.open_until IS 'The circuit is open until then: its items wait in scheduled; afterwards one item at a time tries whether it is back.';
COMMENT ON COLUMN circuit_parts.told IS 'As in circuits.';
COMMENT ON COLUMN circuit_parts.probe IS 'The lease of the item that tries; it counts while that lease is there.';
COMMENT ON COLUMN circuit_parts.probed_at IS 'When that began.';

CREATE TABLE series (
    id   integer GENERATED ALWAYS AS IDENTITY,
    lane integer NOT NULL,
    CONSTRAINT series_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE series IS 'What has lines: one row a mapping of the hub. Bounded by: the mappings; a row goes with its mapping.';
COMMENT ON COLUMN series.id IS 'The series. It never comes back.';
COMMENT ON COLUMN series.lane IS 'The lane in which the heads of its lines run.';

CREATE TABLE lines (
    series integer NOT NULL,
    line   bytea   NOT NULL,
    head   uuid    NOT NULL,
    CONSTRAINT lines_pkey PRIMARY KEY (series, line)
);
COMMENT ON TABLE lines IS 'Lines that somebody stands in. The row is locked to join or to leave a line. Bounded by: lines that somebody stands in.';
COMMENT ON COLUMN lines.series IS 'The series.';
COMMENT ON COLUMN lines.line IS 'Which line: SHA-256 of the values that put an item in it, or of nothing.';
COMMENT ON COLUMN lines.head IS 'The item that may run.';

CREATE TABLE line_waits (
    series integer NOT NULL,
    line   bytea   NOT NULL,
    seq    bigint GENERATED ALWAYS AS IDENTITY,
    item   uuid    NOT NULL,
    CONSTRAINT line_waits_pkey PRIMARY KEY (series, line, seq),
    CONSTRAINT line_waits_item_key UNIQUE (item),
    CONSTRAINT line_waits_line_fkey FOREIGN KEY (series, line) REFERENCES lines (series, line)
);
COMMENT ON TABLE line_waits IS 'Who waits behind the head of a line. Bounded by: what waits in lines.';
COMMENT ON COLUMN line_waits.series IS 'The series.';
COMMENT ON COLUMN line_waits.line IS 'The line.';
COMMENT ON COLUMN line_waits.seq IS 'The place in it.';
COMMENT ON COLUMN line_waits.item IS 'The item.';

CREATE TABLE schedules (
    kind      text        NOT NULL,
    owner     integer     NOT NULL,
    next_at   timestamptz,
    set_at    timestamptz NOT NULL DEFAULT now(),
    last_at   timestamptz,
    last_item uuid,
    CONSTRAINT schedules_pkey PRIMARY KEY (kind, owner),
    CONSTRAINT schedules_kind_known CHECK (kind IN ('queue', 'mapping', 'poller')),
    CONSTRAINT schedules_next_at_finite CHECK (isfinite(next_at))
) WITH (fillfactor = 70);
CREATE INDEX schedules_next_at_idx ON schedules (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX schedules_set_at_idx ON schedules (set_at) WHERE next_at IS NOT NULL;
COMMENT ON TABLE schedules IS 'When each schedule fires next. What a firing makes, its feature knows: the row is locked to fire it. Bounded by: the schedules of queues, mappings and pollers; a row goes with its own.';
COMMENT ON COLUMN schedules.kind IS 'Whose it is: a queue''s (queue_schedules), a mapping''s or a poller''s.';
COMMENT ON COLUMN schedules.owner IS 'The id of the owner among its kind, which never comes back.';
COMMENT ON COLUMN schedules.next_at IS 'When it fires next; null while it is switched off.';
COMMENT ON COLUMN schedules.set_at IS 'When next_at was worked out. If that is still to come, the clock was set back since, and next_at may be far too late: it is worked out anew.';
COMMENT ON COLUMN schedules.last_at IS 'When it last made something, or was last run by hand.';
COMMENT ON COLUMN schedules.last_item IS 'What it made then, if that has an id: a message.';

CREATE TABLE ticks (
    kind     text        NOT NULL,
    owner    integer     NOT NULL,
    at       timestamptz NOT NULL,
    fired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome  text        NOT NULL,
    item     uuid,
    CONSTRAINT ticks_pkey PRIMARY KEY (kind, owner, at),
    CONSTRAINT ticks_schedule_fkey FOREIGN KEY (kind, owner) REFERENCES schedules (kind, owner) ON DELETE CASCADE,
    CONSTRAINT ticks_outcome_known CHECK (outcome IN ('fired', 'overlapped', 'missed', 'by hand')),
    CONSTRAINT ticks_item_if_fired CHECK (item IS NULL OR outcome IN ('fired', 'by hand'))
);
CREATE INDEX ticks_fired_at_idx ON ticks (fired_at);
CREATE INDEX ticks_missed_idx ON ticks (fired_at) WHERE outcome = 'missed';
COMMENT ON TABLE ticks IS 'Every moment of a schedule that came: one row, so that two servers cannot fire the same moment twice. Bounded by: seven days after somebody saw to it.';
COMMENT ON COLUMN ticks.kind IS 'As in schedules.';
COMMENT ON COLUMN ticks.owner IS 'As in schedules.';
COMMENT ON COLUMN ticks.at IS 'The moment; of a run by hand, when that was.';
COMMENT ON COLUMN ticks.fired_at IS 'When somebody saw to it: long after the moment if nobody was there. How old a row is goes by this.';
COMMENT ON COLUMN ticks.outcome IS 'What became of it: fired, overlapped (what the one before made had not ended), missed (nobody was there, and the schedule makes up for nothing), or by hand.';
COMMENT ON COLUMN ticks.item IS 'What it made, if that has an id: a message.';
