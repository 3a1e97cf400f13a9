DROP TABLE line_waits, lines, series, circuit_parts, circuits, rates;
