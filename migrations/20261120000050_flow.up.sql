-- When work may run: limits of lanes, whatever their items are.

CREATE TABLE rates (
    lane   integer     NOT NULL,
    due_at timestamptz NOT NULL,
    CONSTRAINT rates_pkey PRIMARY KEY (lane),
    CONSTRAINT rates_lane_fkey FOREIGN KEY (lane) REFERENCES lanes (id) ON DELETE CASCADE
) WITH (fillfactor = 50);
COMMENT ON TABLE rates IS 'Lanes with a rate limit, and the slots that they have given. Bounded by: the lanes that had a rate limit; a row goes with its lane.';
COMMENT ON COLUMN rates.lane IS 'The lane.';
COMMENT ON COLUMN rates.due_at IS 'When the next item may go (the theoretical arrival time of the generic cell rate algorithm).';
