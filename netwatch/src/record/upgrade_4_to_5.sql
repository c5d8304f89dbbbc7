-- Upgrades a copy of a recording from schema 4 to schema 5.
--
-- A run gets the ports that it published, which schema 4 did not record.

ALTER TABLE run ADD COLUMN published TEXT NOT NULL DEFAULT '[]';
