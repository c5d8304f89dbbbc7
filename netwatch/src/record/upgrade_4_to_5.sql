-- Upgrades a copy of a recording from schema 4 to schema 5.
--
-- A run gets the ports that it published, flows and endpoints get what applications sent and
-- received, and folded flows get their failed attempts. Schema 4 did not record them.

ALTER TABLE run ADD COLUMN published TEXT NOT NULL DEFAULT '[]';
ALTER TABLE flow ADD COLUMN payload_unknown TEXT;
ALTER TABLE flow ADD COLUMN payload_egress_bytes INTEGER;
ALTER TABLE flow ADD COLUMN payload_ingress_bytes INTEGER;
ALTER TABLE endpoint ADD COLUMN payload_unknown TEXT;
ALTER TABLE endpoint ADD COLUMN payload_egress_bytes INTEGER;
ALTER TABLE endpoint ADD COLUMN payload_ingress_bytes INTEGER;
ALTER TABLE folded_endpoint ADD COLUMN payload_unknown TEXT;
ALTER TABLE folded_endpoint ADD COLUMN payload_egress_bytes INTEGER;
ALTER TABLE folded_endpoint ADD COLUMN payload_ingress_bytes INTEGER;
ALTER TABLE folded_endpoint ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folded_endpoint ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folded_endpoint ADD COLUMN unanswered_tries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folded_endpoint ADD COLUMN reset INTEGER NOT NULL DEFAULT 0;
ALTER TABLE folded_endpoint ADD COLUMN unreachable INTEGER NOT NULL DEFAULT 0;
