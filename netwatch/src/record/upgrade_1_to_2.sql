-- Upgrades a copy of a recording from schema 1 to schema 2.
--
-- A flow gets its epoch and its end reason. Schema 1 kept one flow for each five-tuple, so that
-- every epoch is 0. It ended a flow with a RST (TCP flag 4), or with a FIN (TCP flag 1) from both
-- sides: IPFIX reason 3, end of flow. Rows of `process` are identified by `number`, which was their
-- position already.

ALTER TABLE flow RENAME TO flow_of_schema_1;

CREATE TABLE flow (
    number                       INTEGER PRIMARY KEY,
    scope                        TEXT NOT NULL,
    protocol                     INTEGER NOT NULL,
    fragment                     INTEGER NOT NULL,
    local                        TEXT NOT NULL,
    local_port                   INTEGER NOT NULL,
    remote                       TEXT NOT NULL,
    remote_port                  INTEGER NOT NULL,
    epoch                        INTEGER NOT NULL,
    egress_skbs                  INTEGER NOT NULL,
    egress_packets               INTEGER NOT NULL,
    egress_bytes                 INTEGER NOT NULL,
    egress_wire_bytes            INTEGER NOT NULL,
    ingress_skbs                 INTEGER NOT NULL,
    ingress_packets              INTEGER NOT NULL,
    ingress_bytes                INTEGER NOT NULL,
    ingress_wire_bytes           INTEGER NOT NULL,
    first_seen_ns                INTEGER NOT NULL,
    last_seen_ns                 INTEGER NOT NULL,
    direction                    TEXT NOT NULL,
    connections                  INTEGER NOT NULL,
    egress_tcp_flags             INTEGER,
    ingress_tcp_flags            INTEGER,
    handshake_rtt_ns             INTEGER,
    egress_syns                  INTEGER,
    ingress_syns                 INTEGER,
    egress_syn_acks              INTEGER,
    ingress_syn_acks             INTEGER,
    egress_resets                INTEGER,
    ingress_resets               INTEGER,
    egress_retransmitted_packets INTEGER,
    ingress_retransmitted_packets INTEGER,
    egress_retransmitted_bytes   INTEGER,
    ingress_retransmitted_bytes  INTEGER,
    egress_zero_windows          INTEGER,
    ingress_zero_windows         INTEGER,
    round_trips                  INTEGER,
    round_trips_sum_ns           INTEGER,
    round_trips_min_ns           INTEGER,
    icmp_error_type              INTEGER,
    icmp_error_code              INTEGER,
    end_reason                   INTEGER,
    name                         TEXT,
    name_source                  TEXT,
    application                  TEXT,
    application_evidence         TEXT,
    hidden                       TEXT,
    tls_offered_version          TEXT,
    tls_alpn                     TEXT,
    tls_ja4                      TEXT,
    tls_post_quantum             INTEGER
);

INSERT INTO flow SELECT
    number, scope, protocol, fragment, local, local_port, remote, remote_port, 0, egress_skbs,
    egress_packets, egress_bytes, egress_wire_bytes, ingress_skbs, ingress_packets, ingress_bytes,
    ingress_wire_bytes, first_seen_ns, last_seen_ns, direction, connections, egress_tcp_flags,
    ingress_tcp_flags, handshake_rtt_ns, egress_syns, ingress_syns, egress_syn_acks,
    ingress_syn_acks, egress_resets, ingress_resets, egress_retransmitted_packets,
    ingress_retransmitted_packets, egress_retransmitted_bytes, ingress_retransmitted_bytes,
    egress_zero_windows, ingress_zero_windows, round_trips, round_trips_sum_ns, round_trips_min_ns,
    icmp_error_type, icmp_error_code,
    CASE WHEN (egress_tcp_flags | ingress_tcp_flags) & 4 OR egress_tcp_flags & ingress_tcp_flags & 1 THEN 3 END,
    name, name_source, application, application_evidence, hidden, tls_offered_version, tls_alpn,
    tls_ja4, tls_post_quantum
FROM flow_of_schema_1;

DROP TABLE flow_of_schema_1;
