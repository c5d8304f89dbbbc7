-- Upgrades a copy of a recording from schema 6 to schema 7.
--
-- Services get their response times, statuses of HTTP and highest rates. Schema 6 did not record
-- them.

CREATE TABLE service_activity (
    protocol         INTEGER NOT NULL,
    port             INTEGER NOT NULL,
    unmeasured       INTEGER NOT NULL,
    status_1xx       INTEGER NOT NULL,
    status_2xx       INTEGER NOT NULL,
    status_3xx       INTEGER NOT NULL,
    status_4xx       INTEGER NOT NULL,
    status_5xx       INTEGER NOT NULL,
    request_bytes    INTEGER NOT NULL,
    times_bins       TEXT NOT NULL,
    times_max_ns     INTEGER NOT NULL,
    times_sum_ns     INTEGER NOT NULL,
    peak_connections INTEGER,
    peak_wire_bytes  INTEGER
);
