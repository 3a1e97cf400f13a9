DROP TABLE ticks, schedules, line_waits, lines, series, circuit_parts, circuits, rates;
