-- The files of a validated batch as a temporary view and tables. {accepted}, {rejected}: their names; no copy of the
-- accepted rows is made. reread_rows is for the rows of earlier batches (reread.sql).
CREATE TEMP TABLE reread_rows AS SELECT *, false AS freed FROM read_parquet({accepted}) LIMIT 0;

CREATE TEMP VIEW incoming AS
SELECT *, false AS freed FROM read_parquet({accepted})
UNION ALL BY NAME
FROM reread_rows;

CREATE TEMP TABLE rejected_rows AS
SELECT rule, name AS symbol, ts, payload FROM read_parquet({rejected}) WHERE name IS NOT NULL AND ts IS NOT NULL;
