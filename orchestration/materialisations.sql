-- The materialisations of an asset since it was last wiped, the newest first.
SELECT id, run_id, event
FROM event_logs
WHERE asset_key = :asset
  AND dagster_event_type = 'ASSET_MATERIALIZATION'
  AND (:before IS NULL OR id < :before)
  AND timestamp > coalesce((SELECT wipe_timestamp FROM asset_keys WHERE asset_key = :asset), '')
ORDER BY id DESC
