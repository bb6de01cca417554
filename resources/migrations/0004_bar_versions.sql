-- bar_versions cannot be derived from superseded_bars: it also has the requests that repeat a bar, which only the lake
-- knows. The table stays, as the mark by which the next ingest rebuilds the market tables from the lake and drops it.
DROP MACRO TABLE IF EXISTS bars_as_known;
