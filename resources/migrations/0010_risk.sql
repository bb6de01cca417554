-- Only tables are new: schema.sql creates them.
SELECT 1;
