-- Upgrades a copy of a recording from schema 5 to schema 6.
--
-- Local sockets get the number of calls to one that did not exist, and captures the number of
-- packets that their file states as lost. Schema 5 did not record them. The reasons of lost
-- processes get the words of the JSON report.

ALTER TABLE unix_socket ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE replay ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
UPDATE lost SET reason = 'processes.exited' WHERE reason = 'processes.gone';
UPDATE lost SET reason = 'processes.unknown_records' WHERE reason = 'processes.unknown';
UPDATE lost SET reason = 'processes.over_limit' WHERE reason = 'processes.beyond';
