-- Upgrades a copy of a recording from schema 4 to schema 5.
--
-- A run gets the ports that it published, and flows and endpoints get what applications sent and
-- received. Schema 4 did not record them.

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
