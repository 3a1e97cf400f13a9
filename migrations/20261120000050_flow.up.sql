-- When work may run, whatever it is: limits of lanes, and lines of items that run one after another.

CREATE TABLE rates (
    lane   integer     NOT NULL,
    due_at timestamptz NOT NULL,
    CONSTRAINT rates_pkey PRIMARY KEY (lane),
    CONSTRAINT rates_lane_fkey FOREIGN KEY (lane) REFERENCES lanes (id) ON DELETE CASCADE
) WITH (fillfactor = 50);
COMMENT ON TABLE rates IS 'Lanes with a rate limit, and the slots that they have given. Bounded by: the lanes that had a rate limit; a row goes with its lane.';
COMMENT ON COLUMN rates.lane IS 'The lane.';
COMMENT ON COLUMN rates.due_at IS 'When the next item may go (the theoretical arrival time of the generic cell rate algorithm).';

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
