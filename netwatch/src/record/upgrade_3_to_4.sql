-- Upgrades a copy of a recording from schema 3 to schema 4.
--
-- An interval of the series gets connections, failures, times and what the command used, which
-- schema 3 did not record. So do the endpoints with most traffic.

ALTER TABLE step ADD COLUMN connections INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN open INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN tcp_packets INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN retransmitted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN dns_failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN cpu_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN memory_bytes INTEGER;
ALTER TABLE step ADD COLUMN connect_bins TEXT NOT NULL DEFAULT '[]';
ALTER TABLE step ADD COLUMN connect_max_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN connect_sum_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN round_trip_bins TEXT NOT NULL DEFAULT '[]';
ALTER TABLE step ADD COLUMN round_trip_max_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN round_trip_sum_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN dns_bins TEXT NOT NULL DEFAULT '[]';
ALTER TABLE step ADD COLUMN dns_max_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE step ADD COLUMN dns_sum_ns INTEGER NOT NULL DEFAULT 0;

CREATE TABLE endpoint_series (
    number             INTEGER PRIMARY KEY,
    remote             TEXT,
    protocol           INTEGER NOT NULL,
    port               INTEGER NOT NULL,
    direction          TEXT NOT NULL,
    fragment           INTEGER NOT NULL,
    egress_skbs        INTEGER NOT NULL,
    egress_packets     INTEGER NOT NULL,
    egress_bytes       INTEGER NOT NULL,
    egress_wire_bytes  INTEGER NOT NULL,
    ingress_skbs       INTEGER NOT NULL,
    ingress_packets    INTEGER NOT NULL,
    ingress_bytes      INTEGER NOT NULL,
    ingress_wire_bytes INTEGER NOT NULL
);

CREATE TABLE endpoint_step (
    series             INTEGER NOT NULL,
    start_ns           INTEGER NOT NULL,
    length_ns          INTEGER NOT NULL,
    egress_skbs        INTEGER NOT NULL,
    egress_packets     INTEGER NOT NULL,
    egress_bytes       INTEGER NOT NULL,
    egress_wire_bytes  INTEGER NOT NULL,
    ingress_skbs       INTEGER NOT NULL,
    ingress_packets    INTEGER NOT NULL,
    ingress_bytes      INTEGER NOT NULL,
    ingress_wire_bytes INTEGER NOT NULL,
    opened             INTEGER NOT NULL,
    active             INTEGER NOT NULL,
    connections        INTEGER NOT NULL,
    closed             INTEGER NOT NULL,
    open               INTEGER NOT NULL,
    failed             INTEGER NOT NULL,
    tcp_packets        INTEGER NOT NULL,
    retransmitted      INTEGER NOT NULL,
    dns_failed         INTEGER NOT NULL,
    lost               INTEGER NOT NULL,
    cpu_ns             INTEGER NOT NULL,
    memory_bytes       INTEGER,
    connect_bins       TEXT NOT NULL,
    connect_max_ns     INTEGER NOT NULL,
    connect_sum_ns     INTEGER NOT NULL,
    round_trip_bins    TEXT NOT NULL,
    round_trip_max_ns  INTEGER NOT NULL,
    round_trip_sum_ns  INTEGER NOT NULL,
    dns_bins           TEXT NOT NULL,
    dns_max_ns         INTEGER NOT NULL,
    dns_sum_ns         INTEGER NOT NULL
);
