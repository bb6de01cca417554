-- Origins whose forecasts were made before the session of their target began.
ALTER TABLE IF EXISTS scoreboard ADD COLUMN IF NOT EXISTS forward BIGINT DEFAULT 0;
