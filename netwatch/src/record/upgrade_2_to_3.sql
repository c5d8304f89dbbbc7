-- Upgrades a copy of a recording from schema 2 to schema 3.
--
-- A run gets the CPU time and the memory of its processes, which schema 2 did not record.

ALTER TABLE run ADD COLUMN cpu_user_ns INTEGER;
ALTER TABLE run ADD COLUMN cpu_system_ns INTEGER;
ALTER TABLE run ADD COLUMN memory_peak_bytes INTEGER;
