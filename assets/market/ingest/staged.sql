-- The files of a validated batch as temporary tables.
CREATE TEMP TABLE incoming AS SELECT *, false AS freed FROM read_parquet($accepted);

CREATE TEMP TABLE rejected_rows AS
SELECT rule, name AS symbol, ts, payload FROM read_parquet($rejected) WHERE name IS NOT NULL AND ts IS NOT NULL;
