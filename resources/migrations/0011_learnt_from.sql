-- From how many earlier origins a derived forecast was learnt; null of one that is derived: made again by the next run.
ALTER TABLE IF EXISTS forecasts ADD COLUMN IF NOT EXISTS learnt_from INTEGER;
