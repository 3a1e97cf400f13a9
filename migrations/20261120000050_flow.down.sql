DROP TABLE line_waits, lines, series, rates;
