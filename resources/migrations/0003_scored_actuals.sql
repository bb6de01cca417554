-- Until version 2 the actuals of scores were called truths.
ALTER TABLE IF EXISTS scored_truths RENAME COLUMN truth TO actual;
ALTER TABLE IF EXISTS scored_truths RENAME COLUMN last TO last_close;
ALTER TABLE IF EXISTS scored_truths RENAME TO scored_actuals;
