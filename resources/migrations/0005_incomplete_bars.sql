-- Bars that are aggregated from rows of a finer frequency: whether a version lacks some, and how many rows were used.
ALTER TABLE IF EXISTS bar_versions ADD COLUMN IF NOT EXISTS incomplete BOOLEAN DEFAULT false;
ALTER TABLE IF EXISTS payloads ADD COLUMN IF NOT EXISTS aggregated BIGINT DEFAULT 0;
DROP MACRO TABLE IF EXISTS bars_as_known;
